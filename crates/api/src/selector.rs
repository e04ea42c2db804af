//! Label selectors (equality and set-based) and field selectors.
