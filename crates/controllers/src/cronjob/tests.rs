//! What the documentation says of CronJobs, sentence by sentence.
