// Package rules finds what is wrong with an operation, whatever the keys in it say: the part that all providers which
// execute for themselves have in common.
package rules

import (
	"fmt"

	"whale/fabric"
)

// flagsOf are the flags that a kind has a use for.
var flagsOf = [...]fabric.Flags{
	fabric.Write:       fabric.Signaled | fabric.Fenced | fabric.Inline | fabric.WriteThrough | fabric.NonTemporal | fabric.Notify,
	fabric.Read:        fabric.Signaled | fabric.Fenced,
	fabric.Write8:      fabric.Signaled | fabric.Fenced | fabric.Inline | fabric.WriteThrough | fabric.NonTemporal | fabric.Notify,
	fabric.CompareSwap: fabric.Signaled | fabric.Fenced,
	fabric.FetchAdd:    fabric.Signaled | fabric.Fenced,
	fabric.Flush:       fabric.Signaled | fabric.Fenced,
	fabric.Fence:       fabric.Signaled | fabric.Fenced,
	fabric.Send:        fabric.Signaled | fabric.Fenced | fabric.Inline | fabric.Notify,
	fabric.Recv:        fabric.Signaled,
}

// Check says why op is malformed: an error that is [fabric.ErrOp]. inline and maxSend are the limits of the provider's
// Caps, in bytes. It does not allocate when all is well.
func Check(op *fabric.Op, inline, maxSend uint64) error {
	switch {
	case op.Kind == 0 || int(op.Kind) >= len(flagsOf):
		return fmt.Errorf("%w: unknown kind %d", fabric.ErrOp, op.Kind)
	case op.Flags&^flagsOf[op.Kind] != 0:
		return fmt.Errorf("%w: kind %d has no use for flags %#x", fabric.ErrOp, op.Kind, op.Flags&^flagsOf[op.Kind])
	case op.Kind >= fabric.Write8 && op.Kind <= fabric.FetchAdd && op.Remote.Off%8 != 0:
		return fmt.Errorf("%w: offset %d of a word", fabric.ErrOp, op.Remote.Off)
	case op.Flags&fabric.Inline != 0 && op.Kind != fabric.Write8 && op.Len > inline:
		return fmt.Errorf("%w: %d bytes inline, at most %d", fabric.ErrOp, op.Len, inline)
	case op.Kind == fabric.Send && op.Len > maxSend:
		return fmt.Errorf("%w: a message of %d bytes, at most %d", fabric.ErrOp, op.Len, maxSend)
	case op.Kind == fabric.Flush && op.A != fabric.Visible && op.A != fabric.Durable:
		return fmt.Errorf("%w: placement %d", fabric.ErrOp, op.A)
	case op.Kind == fabric.Fence && op.A > fabric.Durable:
		return fmt.Errorf("%w: a fence with placement %d", fabric.ErrOp, op.A)
	case op.Kind == fabric.Flush && op.B != fabric.Range && op.B != fabric.Region:
		return fmt.Errorf("%w: selectivity %d", fabric.ErrOp, op.B)
	case op.Flags&(fabric.WriteThrough|fabric.NonTemporal) == fabric.WriteThrough|fabric.NonTemporal:
		return fmt.Errorf("%w: a write both through the caches and past them", fabric.ErrOp)
	}
	return nil
}
