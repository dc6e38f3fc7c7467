//! The tests of maps in whole groups, in one program: each more would be compiled and linked anew.

mod groups;
mod lazy;
mod lazy_groups;
