//! What belongs to writes: transactions, recaching, warming, resources.
