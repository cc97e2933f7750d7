package mirror

import (
	"slices"

	"whale/pmem"
)

// Tx is a transaction under way. It belongs to one goroutine at a time, and to nobody after Commit.
type Tx struct {
	r      *Region
	mem    pmem.Memory
	data   []byte
	thread int
	open   bool
	wrote  bool  // in this epoch
	err    error // why it cannot commit

	// What follows is idle in a region without mirrors.
	mirrored bool
	links    []*link // to the mirrors that follow
	direct   bool    // all of them are
	stage    stage
	serial   uint64 // of the newest operation that was asked to report its completion
	begun    bool   // in an epoch behind another of this transaction: its first write goes behind a fence
	sent     bool   // something was handed to the mirrors in this transaction
	track    bool   // touched is kept
	touched  touched
	// announcing: it holds the region's right to announce; a mirror that is lost meanwhile is announced under the same.
	announcing bool
}

func newTx(r *Region, thread int) *Tx {
	return &Tx{r: r, mem: r.mem, data: r.data, thread: thread}
}

// makeStage prepares t for mirrors.
func (t *Tx) makeStage() error {
	t.mirrored = true
	t.track = t.r.opts.OnLoss == GoOn
	return t.stage.init(t.r.ep, t.r.opts.Stage)
}

// close ends the connections, and gives back the stage.
func (t *Tx) close() error {
	for _, l := range t.links {
		l.conn.Close()
	}
	t.links = nil
	return t.stage.close()
}

// forget ends the connection to one mirror.
func (t *Tx) forget(p *peer) {
	t.links = slices.DeleteFunc(t.links, func(l *link) bool {
		if l.peer == p {
			l.conn.Close()
		}
		return l.peer == p
	})
}

func (t *Tx) begin() {
	t.open, t.err = true, nil
	if t.mirrored && t.r.lost.Load() > 0 {
		t.dropLost()
	}
}

// Write stores p at off of the region, and sends it to the mirrors. p is the caller's again when it returns. The bytes are part
// of the current epoch. Aligned words of 8 bytes that p covers are never torn; nothing larger is whole. An offset outside the
// region is a programming error and panics. What goes wrong with a mirror is told by Commit.
func (t *Tx) Write(off uint64, p []byte) {
	if !t.open {
		panicClosed()
	}
	n := uint64(len(p))
	if n == 0 {
		return
	}
	copy(t.data[off:off+n], p)
	if !t.direct {
		t.mem.Persist(HeadSize+off, n)
	}
	if t.mirrored {
		t.send(off, p)
	}
	if t.direct { // not earlier: what Post does would wait for it, and could not go on beside it
		t.mem.Persist(HeadSize+off, n)
	}
	t.wrote = true
	if o := t.r.opts.Observer; o != nil {
		o.Write(t.thread, off, n)
	}
}

// Store64 stores a word at off, a multiple of 8 (else it panics), as a whole: no copy ever holds a part of it.
func (t *Tx) Store64(off, v uint64) {
	if !t.open {
		panicClosed()
	}
	_ = t.data[off : off+8]
	t.mem.Store64(HeadSize+off, v)
	if !t.direct {
		t.mem.Persist(HeadSize+off, 8)
	}
	if t.mirrored {
		t.sendWord(off, v)
	}
	if t.direct { // as in Write
		t.mem.Persist(HeadSize+off, 8)
	}
	t.wrote = true
	if o := t.r.opts.Observer; o != nil {
		o.Write(t.thread, off, 8)
	}
}

// Barrier ends the epoch: nothing written later is durable on any copy before everything written earlier is. Without a
// write since the last one it does nothing.
func (t *Tx) Barrier() {
	if !t.open {
		panicClosed()
	}
	if !t.wrote {
		return
	}
	t.wrote = false
	t.mem.Fence()
	if t.mirrored {
		t.endEpoch()
	}
	if o := t.r.opts.Observer; o != nil {
		o.Barrier(t.thread)
	}
}

// Commit ends the transaction. nil: all of it is durable here and on every mirror (in a region that goes on without lost
// ones: on every mirror that is left). An error, which is ErrLost: a mirror is gone, and the region has stopped; all of the
// transaction is durable here, any part that the order of epochs allows is there.
func (t *Tx) Commit() error {
	if !t.open {
		panicClosed()
	}
	if t.wrote {
		t.mem.Fence()
	}
	if t.mirrored {
		t.end()
	}
	t.wrote, t.open = false, false
	if o := t.r.opts.Observer; o != nil {
		o.Commit(t.thread)
	}
	err := t.err
	t.r.finish(t)
	return err
}

// Thread is the number of the thread that the transaction runs on, in [0, Options.Threads).
func (t *Tx) Thread() int { return t.thread }

// Bytes is [Region.Bytes]: what the transaction has written is there at once.
func (t *Tx) Bytes() []byte { return t.data }

// Load64 is [Region.Load64].
func (t *Tx) Load64(off uint64) uint64 { return t.mem.Load64(HeadSize + off) }

//go:noinline
func panicClosed() { panic("mirror: a transaction was used after its Commit") }
