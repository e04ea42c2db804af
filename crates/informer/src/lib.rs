//! Reflector, DeltaFifo, Indexer, SharedInformer, WorkQueue: what a controller is made of.
