mod connect;
mod forward;
mod rig;
