//! Plugins that misbehave, for testing the host. Each program under `examples/` is one component, built by `cargo xtask
//! plugins --guests`. This library is empty; cargo requires one.
