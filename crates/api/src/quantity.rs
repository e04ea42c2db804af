//! Quantities: `100m`, `1.5Gi`, `1e3`. Exact decimal arithmetic, canonical form as upstream's.
