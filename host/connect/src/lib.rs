//! etcd: snapshots of clusters that the operator named.
