package shard

// Fault takes one rule away from an engine, so that tests can show that they would notice. Only tests set one.
type Fault uint8

const (
	FaultNone Fault = iota
	// FaultReadUnstable lets P answer reads from versions that are not committed (trap 3 of docs/protocol.md).
	FaultReadUnstable
	// FaultNoGate lets a reply leave that reveals a write which is not committed (trap 8).
	FaultNoGate
	// FaultAnyEpoch accepts an S word of any epoch (trap 11).
	FaultAnyEpoch
	// FaultKnownS takes the S that a backup happens to know for a fresh one: no READ (trap 2, the reader's side).
	FaultKnownS
	// FaultOwnClock lets every member decide by its own clock that a key has expired.
	FaultOwnClock
)

// Break makes the engine obey the protocol but for one rule.
func (e *Engine) Break(f Fault) { e.bad = f }
