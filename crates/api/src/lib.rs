//! What a Kubernetes object is: the resource table, schemas, defaults, validation, patches, protobuf. No I/O, no clock.
