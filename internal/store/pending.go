package store

import (
	"sync/atomic"

	"whale/internal/plog"
)

// pending holds the records that a replica knows of and that its index does not show yet: those of the seqs in
// (installed, drained]. It is a ring of as many entries as the metadata ring has slots, an entry at its seq modulo that
// number, so that what is installed makes room by itself.
//
// Entries hang in chains, newest first: one for each bucket of hashes, and one of the flush-alls. A link is a seq. A
// chain ends where a seq is installed, and the entries behind may have been overwritten: who walks it finds an entry of
// another seq, or one that is installed, and goes on to the index, where that record and all older ones are by then.
//
// Two orders make a reader see every record that was drained before it began, here or in the index:
//
//   - drained moves past an entry after the entry is in its chain;
//   - installed moves past an entry after the index shows it, and a reader looks here first, then at the index.
//
// One goroutine at a time adds (the one that drains), one moves installed (the loop), any reads.
type pending struct {
	mask    uint64
	entries []pendingEntry
	heads   []atomic.Uint64 // newest seq of each bucket
	flush   atomic.Uint64   // newest flush-all, pending or not

	_         [64]byte
	drained   atomic.Uint64
	_         [56]byte
	installed atomic.Uint64
	_         [56]byte
}

// pendingEntry is one cache line. Seq is zero while the entry changes; a reader takes a copy and looks at seq again.
type pendingEntry struct {
	seq    atomic.Uint64
	bucket atomic.Uint64 // the hash that the index uses; 0 for a flush-all
	hash   atomic.Uint64 // the hash of the slot
	offset atomic.Uint64
	shape  atomic.Uint64 // length << 32 | flags
	sum    atomic.Uint64
	older  atomic.Uint64 // seq of the next older entry of the chain, 0: none
	here   atomic.Uint64 // seq, once the loop has seen that the bytes are here and verify
}

// pendingRecord is a copy of an entry.
type pendingRecord struct {
	plog.Rec
	bucket uint64
	older  uint64
}

func (p *pending) init(slots uint64) {
	p.mask = slots - 1
	p.entries = make([]pendingEntry, slots)
	p.heads = make([]atomic.Uint64, slots)
}

// reset empties the table: everything up to end is in the index.
func (p *pending) reset(end uint64) {
	for i := range p.entries {
		p.entries[i].seq.Store(0)
	}
	for i := range p.heads {
		p.heads[i].Store(0)
	}
	p.flush.Store(0)
	p.installed.Store(end)
	p.drained.Store(end)
}

func (p *pending) full() bool { return p.drained.Load()-p.installed.Load() > p.mask }

func (p *pending) head(bucket uint64) *atomic.Uint64 {
	if bucket == 0 {
		return &p.flush
	}
	return &p.heads[bucket&p.mask]
}

// add takes in the record after the last drained one, for which there is room. Readers find it at once; the caller moves
// drained afterwards.
func (p *pending) add(r plog.Rec, bucket uint64) {
	e := &p.entries[r.Seq&p.mask]
	head := p.head(bucket)
	e.seq.Store(0)
	e.bucket.Store(bucket)
	e.hash.Store(r.Hash)
	e.offset.Store(r.Off)
	e.shape.Store(uint64(r.Len)<<32 | uint64(r.Flags))
	e.sum.Store(uint64(r.Sum))
	e.older.Store(head.Load())
	e.here.Store(0)
	e.seq.Store(r.Seq)
	head.Store(r.Seq)
}

// get copies the entry of seq. False: it is installed, and overwritten.
func (p *pending) get(seq uint64) (r pendingRecord, ok bool) {
	e := &p.entries[seq&p.mask]
	if e.seq.Load() != seq {
		return pendingRecord{}, false
	}
	shape := e.shape.Load()
	r = pendingRecord{
		Rec: plog.Rec{
			Seq:   seq,
			Hash:  e.hash.Load(),
			Off:   e.offset.Load(),
			Len:   uint32(shape >> 32),
			Sum:   uint32(e.sum.Load()),
			Flags: plog.Flags(shape),
		},
		bucket: e.bucket.Load(),
		older:  e.older.Load(),
	}
	if e.seq.Load() != seq {
		return pendingRecord{}, false
	}
	return r, true
}

// newest returns the newest pending record of the bucket, of any hash in it. False: none is pending.
func (p *pending) newest(bucket uint64) (pendingRecord, bool) { return p.chain(p.head(bucket).Load()) }

// older returns the next older one of the chain.
func (p *pending) older(r pendingRecord) (pendingRecord, bool) { return p.chain(r.older) }

func (p *pending) chain(seq uint64) (pendingRecord, bool) {
	if seq <= p.installed.Load() {
		return pendingRecord{}, false
	}
	return p.get(seq)
}

// truncate drops the entries above end. Nobody adds meanwhile.
func (p *pending) truncate(end uint64) {
	drained := p.drained.Load()
	if drained <= end {
		return
	}
	p.drained.Store(end)
	for seq := drained; seq > end; seq-- {
		// Newest first, so that a chain's head ends up at the newest entry that stays.
		e := &p.entries[seq&p.mask]
		p.head(e.bucket.Load()).Store(e.older.Load())
		e.seq.Store(0)
	}
}
