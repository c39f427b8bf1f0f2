mod connect;
mod forward;
mod model;
mod rig;
