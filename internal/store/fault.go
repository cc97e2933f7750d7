package store

// Fault takes one rule away from a store, so that tests can show that they would notice. Only tests set one.
type Fault uint8

const (
	FaultNone Fault = iota
	// FaultNoChecksum takes bytes for a record when its first word is there.
	FaultNoChecksum
	// FaultInstallUnstable lets a replica's index show what may not be committed.
	FaultInstallUnstable
	// FaultNoDrain lets a replica read without looking for slots that have come.
	FaultNoDrain
	// FaultNoPending lets a replica read from its index alone.
	FaultNoPending
	// FaultKeepTombstones leaves tombstones in the index of the primary when everybody has them.
	FaultKeepTombstones
	// FaultEarlyExpiry takes deadlines for over some milliseconds too early.
	FaultEarlyExpiry
	// FaultNoExpiry never takes one for over.
	FaultNoExpiry
	// FaultOlder answers the older version of a key while the newest one's bytes are not here.
	FaultOlder
)

// Break makes the store obey the rules but for one.
func (s *Store) Break(f Fault) { s.bad = f }
