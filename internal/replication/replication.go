// Package replication says what a replication protocol sees and what it may do: the interface [Core] between a member of
// a shard and the protocol that keeps the members' logs equal.
//
// A core has no I/O, goroutine, clock or lock. It is told what happened ([Input]) and answers with what is to be done
// ([Effects]); whoever drives it (a real process, a simulated cluster, a scripted test) does it. The duties of the driver
// stand at the fields of Effects.
package replication

import (
	"fmt"

	"whale/fabric"
	"whale/internal/plog"
)

// Words of a member's control page that belong to the protocol's conversation, besides those that plog names.
const (
	// OffAsk is raised by P when it wants a report, in its own page and, posted together with S and DW, in the backups'.
	OffAsk = plog.OffDW + 8
	// OffScratch is where a backup's READ of P's S word lands. Only that backup uses it.
	OffScratch = 192
)

// Member is a member of a view.
type Member struct {
	ID  int        // its number in the cluster; also its line in the control pages
	Key fabric.Key // its memory from the control page to the arena's end, for this view only
	// DataEnd is the last seq that the member held durably when it was fenced for this view: slots and bytes from there on
	// are sent again.
	DataEnd uint64
}

// Policy says what must be where before a write is acknowledged (docs/guarantees.md has the table). Under each of them all
// members know of the write: its slot is visible in every ring.
type Policy uint8

const (
	// Mirror: the data is durable at P and at f mirrors.
	Mirror Policy = iota
	// Metadata: the data is durable at P, the slot durable at every member. The data follows along the chain.
	Metadata
	// All: the data is durable at every member.
	All
)

func (p Policy) String() string {
	switch p {
	case Mirror:
		return "mirror"
	case Metadata:
		return "metadata"
	case All:
		return "all"
	}
	return "unknown"
}

// ParsePolicy is the inverse of String.
func ParsePolicy(name string) (Policy, error) {
	for _, p := range [...]Policy{Mirror, Metadata, All} {
		if p.String() == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown policy %q: it is mirror, metadata or all", name)
}

// Mirrors is how many members besides P hold the data before a write is acknowledged, of a cluster of so many and with
// the setting f of [Mirror].
func (p Policy) Mirrors(f, members int) int {
	switch p {
	case Metadata:
		return 0
	case All:
		return members - 1
	}
	return min(f, members-1)
}

// Copies is how many members hold the data before a write is acknowledged, P included, as the policy wants it: a cluster
// that is too small for it has fewer.
func (p Policy) Copies(f, members int) int {
	switch p {
	case Metadata:
		return 1
	case All:
		return members
	}
	return f + 1
}

// View is a membership of the shard, as it begins. It never changes; another one follows it.
type View struct {
	Epoch   uint32
	Self    int      // this member's index in Members
	Members []Member // Members[0] is the primary P, Members[1..Mirrors] are the mirrors, the order is the chain
	Policy  Policy
	Mirrors int // how many members besides P hold the data before a write is acknowledged; see Policy.Mirrors
	// End is the last seq of P's log, all of which is adopted. Records up to End are sent to all members directly.
	End uint64
}

// Primary tells whether this member is P.
func (v *View) Primary() bool { return v.Self == 0 }

// Base is the smallest data end of all members: from Base+1 on P sends again.
func (v *View) Base() uint64 {
	base := v.End
	for _, m := range v.Members {
		base = min(base, m.DataEnd)
	}
	return base
}

// Done is a completion of an operation that an effect posted.
type Done struct {
	Peer  int // index in View.Members
	ID    uint64
	Value uint64
}

// Progress is how far a member is, all as seqs: what it wrote into its line of P's control page.
type Progress struct {
	Drained   uint64 // its ring
	Durable   uint64 // its contiguous log, verified and inside the persistence domain
	Forwarded uint64 // its successor holds, behind a completed flush (the last of the chain: what it holds durably)
}

// Input is what happened since the last Step. Slices are valid during the call only.
type Input struct {
	Now  int64 // monotonic, ns
	View *View // non-nil: a new view begins, and everything of the one before is void
	// Appended are the records that became durable in the log here, in seq order and without a gap since the view's
	// base: at P appended ones (first those of the view's base, sent again), at a backup verified ones.
	Appended []plog.Rec
	Done     []Done
	Drained  uint64     // my ring is drained up to here (backup)
	Peers    []Progress // by index in View.Members: what they reported in this epoch (P)
	Asked    uint64     // how often P asked for a report (backup): the word beside DW in the control page
	Refresh  bool       // backup: a read needs an S that was read after now
	Fetch    []plog.Rec // backup: records whose bytes are wanted now
	Ask      bool       // P: somebody waits for the members' reports (WAIT)
	Idle     bool       // nothing is queued here: publish what changed, and arm no more timers than needed
}

// PeerOps are operations for one peer, in order.
type PeerOps struct {
	Peer int // index in View.Members
	Ops  []fabric.Op
}

// Effects are what the driver owes, in the order of the fields. The slices are the core's and are reused by its next Step.
type Effects struct {
	// Slots are stored into this member's own ring BEFORE Posts, which send them from there.
	Slots []plog.Slot
	// Report is stored into this member's own line of its control page BEFORE Posts, which send it from there.
	Report    Progress
	HasReport bool
	// Stable is S. It is stored into the control page BEFORE Posts, and BEFORE any reply that depends on it leaves.
	Stable uint64
	// Every is DW: older versions of what it covers may go. Stored like Stable.
	Every uint64
	// Ask is stored beside DW in the control page BEFORE Posts.
	Ask uint64
	// Posts go to the peers in this order, one doorbell a peer. What a queue has no room for is posted later, in order.
	Posts []PeerOps
	// Fresh answers a Refresh: P's S word, as it was afterwards, is at OffScratch of the control page; or, with FreshHere,
	// S is Stable, for it is this member that decides it.
	Fresh, FreshHere bool
	// Fetched: bytes asked for by Fetch are in place (to be verified like any that arrive).
	Fetched bool
	// Room is how many records may be appended now: every peer's ring has place for their slots.
	Room int
	// Wake is when the next Step is due though nothing happens; 0: never.
	Wake int64
}

// Reset empties the effects for another step.
func (out *Effects) Reset() {
	*out = Effects{Slots: out.Slots[:0], Posts: out.Posts[:0]}
}

// Core is a replication protocol at one member.
type Core interface {
	// Name tells the protocol: all members of a shard run the same.
	Name() string
	// Reader is the index of the one member that answers reads in a view, -1 when every member does.
	Reader(v *View) int
	// Step takes what happened and leaves in out what is to be done.
	Step(in *Input, out *Effects)
	// Held is the last seq that the member with this index in the view is known to hold durably.
	Held(member int) uint64
}
