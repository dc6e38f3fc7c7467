mod core;
mod fiction;
mod group;
mod layer;
mod wire;
