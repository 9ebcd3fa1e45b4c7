//! Scheduling: affinity, policies, priorities.

use crate::rows;

rows! {}
