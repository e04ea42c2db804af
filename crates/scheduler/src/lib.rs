//! The scheduler: queue, cache, framework, one file per plugin.
