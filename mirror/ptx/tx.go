package ptx

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"whale/mirror"
)

// Tx is a transaction under way. It belongs to one goroutine, and to nobody after Commit or Abort.
type Tx struct {
	p      *Pool
	at     *layout
	tx     *mirror.Tx
	serial uint64
	line   uint64 // of the lane
	log    uint64 // place of the lane's log
	used   uint64 // bytes of it
	buf    []byte // undo: the entry being written; redo: all entries
	newest int    // redo: where the newest entry begins in buf
	err    error  // why it cannot commit

	// covered are the words that the undo log has, by line of 64 bytes.
	covered map[uint64]uint8
	// hull is around all that the redo log has.
	hull span
	// changed is what was changed in place and is not flushed: with a counted log only.
	changed []span

	fresh   []span // allocated in this transaction: nobody else knows them, so they need no log
	private []block
	taken   []block // allocated
	freed   []block
}

// span is the places [off, end).
type span struct{ off, end uint64 }

// Begin begins a transaction. It waits while as many are under way as the region has threads. Errors: those of the region.
func (p *Pool) Begin() (*Tx, error) {
	mtx, err := p.region.Begin()
	if err != nil {
		return nil, err
	}
	t := p.take()
	lane := mtx.Thread()
	t.tx, t.line, t.log = mtx, p.at.lane(lane), p.at.laneLog(lane)
	t.serial, t.used, t.err, t.buf, t.hull = p.region.Load64(t.line+doneOff)+1, 0, nil, t.buf[:0], span{}
	clear(t.covered)
	t.fresh, t.changed, t.private, t.taken, t.freed = t.fresh[:0], t.changed[:0], t.private[:0], t.taken[:0], t.freed[:0]
	return t, nil
}

// take is a Tx that nobody uses.
func (p *Pool) take() *Tx {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		t := p.free[n-1]
		p.free = p.free[:n-1]
		return t
	}
	return &Tx{p: p, at: p.at, covered: map[uint64]uint8{}}
}

func (t *Tx) release() {
	t.tx = nil
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.p.free = append(t.p.free, t)
}

// Write changes the bytes at off to b, which is the caller's again when it returns. A place outside the region, or among what the
// pool itself keeps, is a programming error and panics. That the log is full is told by Commit.
func (t *Tx) Write(off uint64, b []byte) {
	n := uint64(len(b))
	t.mine(off, n)
	if n == 0 || t.err != nil {
		return
	}
	if t.isFresh(off, n) {
		t.put(off, b)
		return
	}
	t.change(off, b)
}

// Store64 changes the word at off, a multiple of 8.
func (t *Tx) Store64(off, v uint64) {
	t.mine(off, 8)
	switch {
	case off%8 != 0:
		panic("ptx: the place of a word is not a multiple of 8")
	case t.err != nil:
	case t.isFresh(off, 8) && t.at.log != Counted:
		t.tx.Store64(off, v)
	default:
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v)
		t.Write(off, b[:])
	}
}

// mine checks a place that a program names.
func (t *Tx) mine(off, n uint64) {
	if t.tx == nil {
		panic("ptx: a transaction was used after its end")
	}
	if off < t.at.root || n > t.at.size || off > t.at.size-n {
		panic(fmt.Sprintf("ptx: [%d, %d+%d) is not the program's, which begins at %d and ends at %d", off, off, n, t.at.root, t.at.size))
	}
}

func (t *Tx) isFresh(off, n uint64) bool {
	for i := range t.fresh {
		if s := &t.fresh[i]; s.off <= off && off+n <= s.end {
			return true
		}
	}
	return false
}

// change changes bytes through the log, the pool's own included.
func (t *Tx) change(off uint64, b []byte) {
	n := uint64(len(b))
	if t.at.log == Redo {
		t.note(off, b)
		return
	}
	if t.keep(off, n); t.err == nil {
		t.put(off, b)
	}
}

// put changes bytes in place, when the log has what they were or nobody else knows them.
func (t *Tx) put(off uint64, b []byte) {
	if t.at.log != Counted {
		t.tx.Write(off, b)
		return
	}
	copy(t.tx.Bytes()[off:], b)
	s := span{off, off + uint64(len(b))}
	if last := len(t.changed) - 1; last >= 0 && t.changed[last].end == s.off {
		t.changed[last].end = s.end
		return
	}
	t.changed = append(t.changed, s)
}

// flush writes what put has left, each byte once.
func (t *Tx) flush() {
	slices.SortFunc(t.changed, func(a, b span) int { return cmp.Compare(a.off, b.off) })
	for i := 0; i < len(t.changed); {
		s := t.changed[i]
		for i++; i < len(t.changed) && t.changed[i].off <= s.end; i++ {
			s.end = max(s.end, t.changed[i].end)
		}
		t.tx.Write(s.off, t.tx.Bytes()[s.off:s.end])
	}
}

// Add keeps what [off, off+n) holds, so that several writes to it cost one epoch. It is a hint: with a redo log, or if the log has it,
// nothing happens.
func (t *Tx) Add(off, n uint64) {
	t.mine(off, n)
	if n > 0 && t.err == nil && t.at.log != Redo && !t.isFresh(off, n) {
		t.keep(off, n)
	}
}

// keep puts what the undo log lacks of [off, off+n) there, durably before anything that is written later. Exactly that: bytes
// beside it may be somebody else's. Parts of words are kept each time, whole words once.
func (t *Tx) keep(off, n uint64) {
	end, kept := off+n, false
	for at := off; at < end && t.err == nil; {
		from := at
		for at < end && !t.has(at) {
			word, next := at&^7, min(at&^7+8, end)
			if at == word && next == word+8 {
				t.covered[word/64] |= 1 << (word / 8 % 8)
			}
			at = next
		}
		if at > from {
			kept = t.keepRun(from, at-from) || kept
		} else {
			at = min(at&^7+8, end)
		}
	}
	if kept {
		t.tx.Barrier()
		if t.at.log == Counted {
			t.tx.Store64(t.line+countOff, t.used)
			t.tx.Barrier()
		}
	}
}

// has says whether the undo log has all of the word that the place is in.
func (t *Tx) has(off uint64) bool { return t.covered[off/64]>>(off/8%8)&1 == 1 }

func (t *Tx) keepRun(off, n uint64) bool {
	if !t.room(entrySize(n)) {
		return false
	}
	t.buf = appendEntry(t.buf[:0], t.serial, off, t.tx.Bytes()[off:off+n])
	t.tx.Write(t.log+t.used, t.buf)
	t.used += uint64(len(t.buf))
	return true
}

// room says whether the log has n bytes left, and else ends the transaction.
func (t *Tx) room(n uint64) bool {
	if n > t.at.logSize-t.used {
		t.err = fmt.Errorf("%w: it has %d bytes, and more are needed: change less in one transaction, or make the pool with a larger LogSize",
			ErrLogFull, t.at.logSize)
	}
	return t.err == nil
}

// note puts new bytes into the redo log.
func (t *Tx) note(off uint64, b []byte) {
	n := entrySize(uint64(len(b)))
	if !t.room(n) {
		return
	}
	t.used += n
	t.newest = len(t.buf)
	t.buf = appendEntry(t.buf, t.serial, off, b)
	end := off + uint64(len(b))
	if t.hull.end == 0 {
		t.hull = span{off, end}
	}
	t.hull = span{min(t.hull.off, off), max(t.hull.end, end)}
}

// Read copies the bytes at off, as the transaction sees them, to dst.
func (t *Tx) Read(off uint64, dst []byte) {
	end := off + uint64(len(dst))
	copy(dst, t.tx.Bytes()[off:end])
	if t.at.log != Redo || end <= t.hull.off || off >= t.hull.end {
		return
	}
	for at := uint64(0); at < uint64(len(t.buf)); {
		b := t.buf[at:]
		place, n := binary.LittleEndian.Uint64(b[8:]), uint64(binary.LittleEndian.Uint32(b[16:]))
		if from, to := max(place, off), min(place+n, end); from < to {
			copy(dst[from-off:to-off], b[entryHead+from-place:entryHead+to-place])
		}
		at += entrySize(n)
	}
}

// Load64 is the word at off, a multiple of 8, as the transaction sees it.
func (t *Tx) Load64(off uint64) uint64 {
	if t.at.log != Redo || off+8 <= t.hull.off || off >= t.hull.end {
		return t.tx.Load64(off)
	}
	var b [8]byte
	t.Read(off, b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// Commit ends the transaction. nil: it is durable here and on every mirror, as a whole. ErrLogFull: nothing of it was done. An
// error of the mirrors (wraps mirror.ErrLost): it is done and durable here, and will be on a mirror's copy or not.
func (t *Tx) Commit() error {
	if t.tx == nil {
		panic("ptx: a transaction was used after its end")
	}
	if t.err != nil {
		err := t.err
		if aerr := t.Abort(); aerr != nil {
			return fmt.Errorf("%w; %w", err, aerr)
		}
		return err
	}
	if t.at.log == Redo && len(t.buf) > 0 {
		markLast(t.buf[t.newest:])
		t.tx.Write(t.log, t.buf)
		t.tx.Barrier() // with what was written to fresh blocks
		t.tx.Store64(t.line+committedOff, t.serial)
		t.tx.Barrier()
		for at := uint64(0); at < uint64(len(t.buf)); {
			b := t.buf[at:]
			n := uint64(binary.LittleEndian.Uint32(b[16:]))
			t.tx.Write(binary.LittleEndian.Uint64(b[8:])&^lastEntry, b[entryHead:entryHead+n])
			at += entrySize(n)
		}
	}
	t.flush()
	t.end()
	err := t.tx.Commit()
	t.p.heap.committed(t)
	t.release()
	return err
}

// end says, when all before it is durable, that the log is not needed any more.
func (t *Tx) end() {
	if t.used == 0 {
		return
	}
	t.tx.Barrier()
	t.tx.Store64(t.line+doneOff, t.serial)
	if t.at.log == Counted {
		t.tx.Store64(t.line+countOff, 0)
	}
}

// Abort ends the transaction and leaves nothing of it. An error of the mirrors is that of Commit.
func (t *Tx) Abort() error {
	if t.tx == nil {
		panic("ptx: a transaction was used after its end")
	}
	if t.at.log != Redo && t.used > 0 {
		t.flush() // the bytes of blocks that nobody has now: copies are equal there, too
		all := entries(t.tx.Bytes()[t.log:][:t.at.logSize], t.serial, t.at.size)
		for i := len(all) - 1; i >= 0; i-- {
			t.tx.Write(all[i].place, all[i].bytes)
		}
		t.end()
	}
	err := t.tx.Commit()
	t.p.heap.aborted(t)
	t.release()
	return err
}
