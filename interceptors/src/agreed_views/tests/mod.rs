mod group;
mod layer;
mod wire;
