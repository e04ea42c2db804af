//! The API server: authentication, admission, handlers, watches, discovery.
