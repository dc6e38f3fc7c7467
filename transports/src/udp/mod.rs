//! UDP: one frame or several in one datagram; acknowledgements come back to its source address. Each datagram stands for
//! itself: nothing of one is ever mixed with another.

pub(crate) mod receiver;
mod sender;

pub(crate) use sender::UdpSender;
