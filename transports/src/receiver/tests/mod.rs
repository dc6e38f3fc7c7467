//! A real channel, real sockets, and peers written by hand.

mod hostile;
mod java;
mod lifecycle;
mod ours;
mod pair;
mod udp;
