//! Jobs and schedules.
