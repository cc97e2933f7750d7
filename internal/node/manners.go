package node

import (
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/shard"
)

// manners are how a loop behaves on a machine with few processors while nobody waits for it: P and its clients, who wait
// for each other, may be waiting for its processor. So it offers that to them after each step.
//
// Whoever yields gives away what is left of its time slice. With slices of the usual length (1.4 ms on two processors) a
// backup gets only what everybody else leaves over, which is right as long as it is not needed, and keeps it from ever
// catching up on a busy machine. One that is behind asks for short slices: it gets its share, in small pieces.
type manners struct {
	thread  int // that the slice was asked for
	slice   time.Duration
	refused bool
	log     *slog.Logger
}

// shortSlice is of the order of a step.
const shortSlice = 200 * time.Microsecond

// stepAside lets others have the processor, if they wait for it.
func (m *manners) stepAside(u shard.Urgency) {
	slice := time.Duration(0) // as usual
	if u == shard.Soon {
		slice = shortSlice
	}
	if thread := unix.Gettid(); slice != m.slice || slice != 0 && thread != m.thread {
		m.thread, m.slice = thread, slice
		m.ask()
	}
	unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
}

// ask asks for the slice, of which Linux has heard since 6.12 (sched_setattr(2)); before, nothing changes. It needs no right.
func (m *manners) ask() {
	if m.refused {
		return
	}
	attr, err := unix.SchedGetAttr(0, 0)
	if err == nil {
		if attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
			return // somebody has decided otherwise
		}
		attr.Runtime = uint64(m.slice)
		err = unix.SchedSetAttr(0, attr, 0)
	}
	if err != nil {
		m.refused = true
		m.log.Warn("the kernel refuses short time slices: on a busy machine with few processors this node may hold up the primary", "error", err)
	}
}
