//! The client against the simulator: what it reads and writes, and how it bears faults.

mod app;
mod faults;
mod kept;
mod moved;
mod proxies;
mod pulls;
mod reading;
mod scene;
