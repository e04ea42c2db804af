//! A client of any Kubernetes API server, over HTTP or in process.
