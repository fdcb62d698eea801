//! The Lightsail double: what it answers, what it refuses, its faults and its lags.

mod access;
mod client;
mod faults;
mod firewall;
mod instances;
mod offers;
mod policy;
mod static_ips;
