//! The tests of several layers together, in one program: each more would be compiled and linked anew.
//! The conformance suites, which run with reports and many seeds, are a program of their own beside this folder.

mod by_name;
mod endpoints;
mod stack_rules;
mod trace_in_stacks;
mod wall_clock;
