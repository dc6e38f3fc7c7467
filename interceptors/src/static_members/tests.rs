mod core;
mod layer;
