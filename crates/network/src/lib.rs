//! The pod network: bridge, addresses, and the namespace side of each pod.
