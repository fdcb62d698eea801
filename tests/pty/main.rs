//! `setup` as somebody at a terminal meets it: asked in a pseudo-terminal, on the doubles.

mod consent;
mod desk;
mod leaving;
mod refused;
mod terminals;
mod wizard;
