package mirror

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"whale/fabric"
	"whale/pmem"
)

// link is a transaction's connection to a mirror.
type link struct {
	r      *Region
	peer   *peer
	conn   fabric.Conn
	key    fabric.Key // of the mirror's memory
	inline uint64
	flags  fabric.Flags // of every write
	batch  int          // how many operations are handed over at a time
	direct bool         // a write is over when it has been handed over: its bytes need no stage

	ops  []fabric.Op // not yet posted
	done uint64      // the newest serial that was reported
	err  error       // why it is of no more use

	// Of the epoch, for its remote commit: how many writes, and where the last one went.
	writes int
	off, n uint64

	space [16]fabric.Completion
}

// hurry decides how many operations are handed over at a time. Where this thread's processor carries out a write itself, and
// flushes it, that is one: then the flushes here and there are on their way at the same time, and one fence, this thread's at the end
// of the epoch, waits for both. (A remote commit waits for the mirror before the caller goes on: there is nothing to share.)
func (l *link) hurry(there pmem.Domain) {
	o := &l.r.opts
	switch {
	case o.Batch != 0:
		l.batch = o.Batch
	case l.conn.Caps().Immediate && there == pmem.ADR && o.Strategy != RemoteCommit:
		l.batch = 1
	default:
		l.batch = DefaultBatch
	}
	l.direct = l.conn.Caps().Immediate && l.batch == 1
	l.ops = make([]fabric.Op, 0, l.batch+4)
}

// write adds the write of n bytes.
func (l *link) write(off uint64, from fabric.Span, n uint64) {
	last := len(l.ops)
	l.ops = append(l.ops, fabric.Op{})
	op := &l.ops[last] // in place: an operation has ten words
	op.Kind, op.Flags, op.Local, op.Remote, op.Len = fabric.Write, l.flags, from, fabric.Addr{Key: l.key, Off: off}, n
	if n <= l.inline {
		op.Flags |= fabric.Inline
	}
	l.writes, l.off, l.n = l.writes+1, off, n
}

// word adds the write of a word.
func (l *link) word(off, v uint64) {
	l.ops = append(l.ops, fabric.Op{Kind: fabric.Write8, Flags: l.flags, Remote: fabric.Addr{Key: l.key, Off: off}, Len: 8, A: v})
	l.writes, l.off, l.n = l.writes+1, off, 8
}

// flush is the durable flush of the epoch: of its one write, or of all of the memory, for ranges would cost one each.
func (l *link) flush() fabric.Op {
	f := fabric.Op{Kind: fabric.Flush, A: fabric.Durable, B: fabric.Region, Remote: fabric.Addr{Key: l.key}}
	if l.writes == 1 {
		f.B, f.Remote.Off, f.Len = fabric.Range, l.off, l.n
	}
	l.writes = 0
	return f
}

// last adds an operation that reports its completion.
func (l *link) last(op fabric.Op, serial uint64) {
	op.Flags, op.ID = fabric.Signaled, serial
	l.ops = append(l.ops, op)
}

// post hands the operations over.
func (l *link) post() {
	var w waiting
	ops := l.ops
	for l.err == nil {
		n := l.conn.Post(ops)
		if ops = ops[n:]; len(ops) == 0 {
			break
		}
		l.poll(&w)
	}
	l.ops = l.ops[:0]
}

// await waits until the operation of that serial has completed, or the link has failed.
func (l *link) await(serial uint64) {
	var w waiting
	for l.done < serial && l.err == nil {
		l.poll(&w)
	}
}

// poll takes in completions, and lets time pass if there are none.
func (l *link) poll(w *waiting) {
	n := l.conn.Poll(l.space[:])
	for i := range n {
		c := &l.space[i]
		if c.Err != nil {
			l.err = c.Err
			return
		}
		l.done = c.ID
	}
	if n == 0 {
		l.err = l.r.pause(w)
	} else {
		*w = waiting{}
	}
}

// waiting is for how long nothing has come.
type waiting struct {
	rounds  int
	since   time.Time
	parking bool
}

const (
	spinRounds = 100                    // polls before others get the processor
	clockEvery = 64                     // polls between two looks at the clock
	spinTime   = 100 * time.Microsecond // before the thread parks
	parkTime   = time.Millisecond       // at most, for a connection may not ring
)

// ErrTimeout is inside the error of a mirror that kept a transaction waiting for too long.
var ErrTimeout = errors.New("no answer in time")

// pause lets time pass. An error: nothing came in time.
func (r *Region) pause(w *waiting) error {
	if r.opts.Idle != nil {
		return r.opts.Idle()
	}
	if w.rounds++; w.rounds < spinRounds {
		return nil
	}
	runtime.Gosched()
	if !w.parking && w.rounds%clockEvery != 0 {
		return nil
	}
	if w.since.IsZero() {
		w.since = time.Now()
		return nil
	}
	waited := time.Since(w.since)
	if waited > r.opts.Timeout {
		return fmt.Errorf("%w: %v have passed", ErrTimeout, waited.Round(time.Millisecond))
	}
	if w.parking = waited > spinTime; w.parking {
		r.park()
	}
	return nil
}

// park waits at the doorbell. One waits there for all: who finds the place taken waits for that one, and then polls.
func (r *Region) park() {
	r.parked.Lock()
	defer r.parked.Unlock()
	if r.ep.Arm() {
		r.ep.Wait(parkTime)
	}
}
