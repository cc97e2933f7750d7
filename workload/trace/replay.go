package trace

import (
	"encoding/binary"
	"fmt"

	"whale/mirror"
	"whale/workload"
)

const lineSize = 64

// Replay is a workload of a trace's shape. It implements workload.Workload.
//
// Each cache line is one write of 64 bytes, as in the programs from which such traces come. A trace does not say which line
// it was: the first writes of a transaction take fresh lines, one after the other, and of the others as many go back
// to lines of their transaction that lines are written [Rewrites] times in the mean, as in the WHISPER suite. Each
// thread replays the whole trace, from another place on, and starts again at its end.
type Replay struct {
	name         string
	transactions []Transaction
	threads      int
	span         uint64 // bytes of the region that belong to a thread
}

// Rewrites is how often a line is written in a transaction, in the mean.
const Rewrites = 2.25

// leastSpan is how many bytes of the region belong to a thread, if no epoch needs more.
const leastSpan = 8 << 20

// New replays a trace with as many threads. name is what the workload is called.
func New(name string, trace []Transaction, threads int) (*Replay, error) {
	if len(trace) == 0 || threads < 1 || threads > 1024 {
		return nil, fmt.Errorf("trace: %d transactions by %d threads: want one at least, and 1 to 1024 threads", len(trace), threads)
	}
	// The lines of an epoch are different ones, so a thread has as many as the longest epoch.
	longest := uint32(0)
	for i, t := range trace {
		for _, n := range t {
			if n == 0 || n > MaxLines {
				return nil, fmt.Errorf("trace: transaction %d has an epoch of %d lines: want 1 to %d", i+1, n, MaxLines)
			}
			longest = max(longest, n)
		}
	}
	return &Replay{name, trace, threads, max(leastSpan, uint64(longest)*lineSize)}, nil
}

// Name implements workload.Workload.
func (w *Replay) Name() string { return w.name }

// Threads implements workload.Workload.
func (w *Replay) Threads() int { return w.threads }

// Size implements workload.Workload.
func (w *Replay) Size() uint64 { return uint64(w.threads) * w.span }

// Prepare implements workload.Workload: there is nothing to prepare.
func (w *Replay) Prepare(r *mirror.Region) error {
	if r.Size() < w.Size() {
		return fmt.Errorf("trace: a region of %d bytes, want %d", r.Size(), w.Size())
	}
	return nil
}

// Open implements workload.Workload.
func (w *Replay) Open(r *mirror.Region) (workload.Program, error) {
	if err := w.Prepare(r); err != nil {
		return nil, err
	}
	return &program{w, r, make([]cursor, w.threads)}, nil
}

type program struct {
	*Replay
	r       *mirror.Region
	cursors []cursor
}

// cursor is where a thread is.
type cursor struct {
	done  int    // transactions
	fresh uint64 // lines of the thread's part, taken one after the other
	wrote uint64 // writes
	_     [40]byte
}

// Run implements workload.Program.
func (p *program) Run(t *workload.Thread, n int) error {
	if t.Index >= p.threads {
		return fmt.Errorf("trace: thread %d of %d", t.Index, p.threads)
	}
	c := &p.cursors[t.Index]
	first := t.Index * len(p.transactions) / p.threads
	for range n {
		epochs := p.transactions[(first+c.done)%len(p.transactions)]
		if err := p.transaction(t, c, epochs); err != nil {
			return err
		}
		c.done++
	}
	return nil
}

func (p *program) transaction(t *workload.Thread, c *cursor, epochs Transaction) error {
	tx, err := p.r.Begin()
	if err != nil {
		return err
	}
	var line [lineSize]byte
	start, written := c.fresh, uint64(0)
	for i, n := range epochs {
		if i > 0 {
			tx.Barrier()
		}
		// Lines of one epoch are different ones: some go back to where the transaction was before the epoch, the rest are fresh.
		before := c.fresh - start
		back := uint64(0)
		if want := float64(written+uint64(n)) / Rewrites; want < float64(before)+float64(n) {
			back = min(uint64(n), uint64(float64(before)+float64(n)-want), before)
		}
		// The fresh ones may take the places of the transaction's first, for the span begins again at its end: nothing goes back there.
		skip := uint64(0)
		if all := before + uint64(n) - back; all > p.span/lineSize {
			skip = all - p.span/lineSize
		}
		if before > back {
			skip += t.Rand.Uint64N(before - back - skip + 1)
		}
		for k := range uint64(n) {
			at := start + skip + k
			if k >= back {
				at = c.fresh
				c.fresh++
			}
			c.wrote++
			binary.LittleEndian.PutUint64(line[:], c.wrote)
			tx.Write(uint64(t.Index)*p.span+at*lineSize%p.span, line[:])
		}
		written += uint64(n)
	}
	return tx.Commit()
}

// Check implements workload.Program: a trace has no data that could be wrong.
func (p *program) Check() error { return nil }
