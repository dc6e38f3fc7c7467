mod defects;
mod exchange;
mod group;
mod layer;
mod lease;
mod scenario;
mod simulation;
mod wire;
