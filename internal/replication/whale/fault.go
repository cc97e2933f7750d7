package whale

// Fault takes one rule away from a core, so that tests can show that they would notice. Only tests set one.
type Fault uint8

const (
	FaultNone Fault = iota
	// FaultEarlyCommit counts completed writes as visible and durable, without a flush (trap 1 of docs/protocol.md).
	FaultEarlyCommit
	// FaultDataOnly commits when the mirrors have the data, although a backup may not know of the write (trap 2).
	FaultDataOnly
	// FaultVisibleSlots answers under the policy metadata when the slots are visible, not durable.
	FaultVisibleSlots
)

// Break makes the core obey the protocol but for one rule.
func (c *Core) Break(f Fault) { c.bad = f }
