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
	// FaultOffByOne commits one record too many.
	FaultOffByOne
	// FaultEarlyEverywhere takes what is committed for held everywhere (trap 6).
	FaultEarlyEverywhere
	// FaultForwardWritten counts bytes as forwarded when the writes have completed, without a flush.
	FaultForwardWritten
	// FaultVisibleData flushes the mirrors' bytes to visibility only.
	FaultVisibleData
	// FaultNoRoom overwrites slots that were not drained.
	FaultNoRoom
	// FaultSilent never rings a backup.
	FaultSilent
	// FaultNoChain never forwards what P did not send directly.
	FaultNoChain
)

// Break makes the core obey the protocol but for one rule.
func (c *Core) Break(f Fault) { c.bad = f }
