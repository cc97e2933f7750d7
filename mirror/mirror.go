// Package mirror keeps a region of persistent memory identical on one or more mirrors, by one-sided writes: no CPU of a
// mirror takes part.
//
// A program opens a [Region] and changes it in transactions. A transaction is a sequence of epochs: its writes become
// durable epoch after epoch, here and on every mirror, in any order within one epoch. [Tx.Barrier] ends an epoch and
// [Tx.Commit] the transaction: when Commit has returned nil, all of it is durable here and on every mirror.
//
//	region, err := mirror.Open(ctx, memory, endpoint, []string{addr}, mirror.Options{Strategy: mirror.OrderedBuffering})
//	tx, err := region.Begin()
//	tx.Write(0, record)       // epoch 1
//	tx.Barrier()
//	tx.Store64(4096, 1)       // epoch 2: never durable anywhere before the record is
//	err = tx.Commit()
//
// That order is all there is: what a crash leaves of a transaction that has not committed is a prefix of its epochs and
// any part of the next, on each side by itself. Package mirror/ptx makes atomic transactions of that.
//
// # Strategies
//
// The same promise is kept in three ways, those of Tavakkol et al., "Enabling Efficient RDMA-based Synchronous Mirroring of
// Persistent Memory Transactions" (arXiv 1810.09360), and, to compare with, not at all: see [Strategy]. docs/mirroring.md
// tells which primitive of package fabric each uses and what that costs.
//
// # The other side
//
// A mirror is memory that an [Export] offers to one primary at a time. The first [HeadSize] bytes of the memory, on either
// side, are the region's label: whose copy it is, of which generation, and whether it may be opened. When the primary is
// gone, its mirror's memory is opened with Open like the primary's own, and is the primary from then on; a newer
// generation tells the old copy from the new one.
//
// # Threads
//
// Any goroutine may call the methods of a Region; each transaction belongs to one goroutine at a time, and has connections of its
// own. Transactions are not isolated from each other by this package: what one reads or overwrites of another's writes
// must wait for that one's Commit, or order and durability are lost across the two.
package mirror

import (
	"fmt"
	"strings"
	"time"
)

// Strategy is how the mirrors follow.
type Strategy uint8

const (
	// None: there are no mirrors. A write is a store and its flush, the end of an epoch a fence.
	None Strategy = iota
	// RemoteCommit (SM-RC): each epoch ends with a remote commit, for which the caller waits: a round trip an epoch.
	RemoteCommit
	// OrderedBuffering (SM-OB): writes are written through, a remote ordering fence is posted between epochs, and the
	// caller waits for one remote durability fence, at Commit.
	OrderedBuffering
	// DDIODisabled (SM-DD): non-temporal writes, which become durable in the order of posting; the caller waits for one Read,
	// at Commit. It needs peers whose incoming writes pass the caches by.
	DDIODisabled
)

// Strategies are all of them, the one to compare with first.
var Strategies = []Strategy{None, RemoteCommit, OrderedBuffering, DDIODisabled}

var strategyNames = [...]string{"none", "sm-rc", "sm-ob", "sm-dd"}

// String is the name that [ParseStrategy] takes.
func (s Strategy) String() string {
	if int(s) < len(strategyNames) {
		return strategyNames[s]
	}
	return fmt.Sprintf("Strategy(%d)", uint8(s))
}

// ParseStrategy is the strategy of that name, whatever the case of its letters.
func ParseStrategy(name string) (Strategy, error) {
	for i, known := range strategyNames {
		if strings.EqualFold(name, known) {
			return Strategy(i), nil
		}
	}
	return None, fmt.Errorf("mirror: unknown strategy %q: choose one of %s", name, strings.Join(strategyNames[:], ", "))
}

// Loss is what a region does when it loses a mirror.
type Loss uint8

const (
	// Stop: the transactions under way fail, and no other begins. What they wrote is in the region all the same.
	Stop Loss = iota
	// GoOn: the region goes on with the mirrors that are left, or alone, and notes what the lost one misses for
	// [Region.Resync].
	GoOn
)

// Options say how a region is mirrored. The zero value is a region without mirrors and with one thread.
type Options struct {
	Strategy Strategy
	// Threads is how many transactions may be under way at a time; each has a connection to each mirror. 0: 1.
	Threads int
	OnLoss  Loss
	// Timeout is how long a mirror may keep a transaction waiting before it counts as lost. 0: DefaultTimeout. With Idle it has
	// no meaning.
	Timeout time.Duration
	// Batch is how many operations are handed to a connection at a time, as long as nobody waits for them: 1 sends each
	// at once, more rings fewer doorbells. 0: DefaultBatch, or 1 where there are no doorbells (fabric.Caps.Immediate).
	Batch int
	// Stage is how many bytes of writes, for each thread, may be on their way to the mirrors. 0: DefaultStage.
	Stage uint64
	// Idle, if not nil, is called in place of waiting, again and again while a transaction waits: it lets the next thing
	// happen on a fabric that is simulated. An error says that nothing will; the mirror is then lost.
	Idle func() error
	// Progress, if not nil, hears how much of a mirror has been copied, in bytes, while it is filled; the total grows when transactions write
	// meanwhile. It must not use the region, whose transactions may be waiting.
	Progress func(peer string, done, total uint64)
	// Trust takes the primary's copy as it is, although it may have lost what was committed: see [ErrRestarted].
	Trust bool
	// Observer, if not nil, hears of everything that transactions do.
	Observer Observer
}

// Observer hears of what transactions do, from the goroutine that does it: a recorder of traces. thread is in
// [0, Options.Threads).
type Observer interface {
	Write(thread int, off, n uint64)
	Barrier(thread int)
	Commit(thread int)
}

const (
	DefaultTimeout = 5 * time.Second
	DefaultBatch   = 8
	DefaultStage   = 256 << 10
)

func (o *Options) fill() error {
	switch {
	case int(o.Strategy) >= len(strategyNames):
		return fmt.Errorf("mirror: unknown strategy %d", o.Strategy)
	case o.OnLoss > GoOn:
		return fmt.Errorf("mirror: unknown choice %d for the loss of a mirror", o.OnLoss)
	case o.Threads < 0 || o.Threads > maxThreads:
		return fmt.Errorf("mirror: %d threads; expected 1 to %d", o.Threads, maxThreads)
	case o.Batch < 0 || o.Batch > maxBatch:
		return fmt.Errorf("mirror: batches of %d operations; expected 1 to %d", o.Batch, maxBatch)
	case o.Stage != 0 && (o.Stage < minStage || o.Stage > maxStage):
		return fmt.Errorf("mirror: a stage of %d bytes; expected %d to %d", o.Stage, minStage, maxStage)
	case o.Timeout < 0:
		return fmt.Errorf("mirror: a timeout of %v; expected a positive one", o.Timeout)
	}
	set(&o.Threads, 1)
	set(&o.Stage, DefaultStage)
	set(&o.Timeout, DefaultTimeout)
	o.Stage &^= 7
	return nil
}

const (
	maxThreads = 1024
	maxBatch   = 256
	minStage   = 4 << 10
	maxStage   = 1 << 30
)

// set gives v its default.
func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
