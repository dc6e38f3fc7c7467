mod defects;
mod group;
mod layer;
mod lease;
mod scenario;
mod simulation;
mod wire;
