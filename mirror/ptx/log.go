package ptx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
)

// A lane's log is entries back to back from its start, those of the newest transaction first:
//
//	serial 8, place 8, length 4, crc32c 4, bytes padded to whole words
//
// The crc covers all the rest. The place of a redo log's last entry has its highest bit set, for all the entries of what has committed
// must be there. An entry counts if it is whole and has the serial of the transaction that is looked for;
// since entries become durable in their order, the first one that does not count ends the log, and no count of them is
// kept.
//
// The lane's line has two words. done is the serial of the last transaction that has ended, whether it committed or not;
// committed, of the redo log only, that of the last one that has committed: one more than done while its bytes are put into
// place. The next transaction has serial done+1. Of a counted log, no entry counts that is not within so many bytes as a third word says; it is 0
// between transactions, and may be an older one's after a crash, whose serials are none.
const (
	entryHead = 24

	committedOff = 0
	doneOff      = 8
	countOff     = 16
)

// lastEntry marks the place of a redo log's last entry.
const lastEntry = 1 << 63

func entrySize(n uint64) uint64 { return entryHead + up(n, 8) }

// appendEntry encodes an entry behind b.
func appendEntry(b []byte, serial, place uint64, bytes []byte) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = le.AppendUint64(b, serial)
	b = le.AppendUint64(b, place)
	b = le.AppendUint32(b, uint32(len(bytes)))
	b = le.AppendUint32(b, 0)
	b = append(b, bytes...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	le.PutUint32(b[start+20:], entrySum(b[start:]))
	return b
}

func entrySum(e []byte) uint32 {
	return crc32.Update(crc32.Checksum(e[:20], castagnoli), castagnoli, e[entryHead:])
}

// entry is one that counts, in the log's memory.
type entry struct {
	place uint64
	bytes []byte
	next  uint64 // offset of the next one in the log
	last  bool
}

// markLast marks the entry at the end of a redo log, of which it is b.
func markLast(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b[8:], le.Uint64(b[8:])|lastEntry)
	le.PutUint32(b[20:], entrySum(b))
}

// entryAt is the entry at off of a log; false: none that counts.
func entryAt(log []byte, off, serial, size uint64) (e entry, ok bool) {
	if off > uint64(len(log)) || uint64(len(log))-off < entryHead {
		return e, false
	}
	b := log[off:]
	le := binary.LittleEndian
	n := uint64(le.Uint32(b[16:]))
	if le.Uint64(b) != serial || n == 0 || entrySize(n) > uint64(len(b)) {
		return e, false
	}
	if le.Uint32(b[20:]) != entrySum(b[:entrySize(n)]) {
		return e, false
	}
	place := le.Uint64(b[8:])
	e = entry{place: place &^ lastEntry, bytes: b[entryHead : entryHead+n], next: off + entrySize(n), last: place&lastEntry != 0}
	return e, e.place <= size && n <= size-e.place
}

// entries are all that count of a transaction.
func entries(log []byte, serial, size uint64) (all []entry) {
	for off := uint64(0); ; {
		e, ok := entryAt(log, off, serial, size)
		if !ok {
			return all
		}
		all = append(all, e)
		off = e.next
	}
}

// recover ends what a crash has interrupted, in every lane: first the bytes, then the words that say so. A serial that was used
// is never used again, for entries of it may be anywhere in the log.
func (p *Pool) recover() error {
	tx, err := p.region.Begin()
	if err != nil {
		return err
	}
	var bad error
	for i := range int(p.at.lanes) {
		all, err := p.interrupted(i)
		if err != nil {
			bad = err
			break
		}
		for _, e := range all {
			tx.Write(e.place, e.bytes)
		}
	}
	if bad == nil {
		tx.Barrier()
		for i := range int(p.at.lanes) {
			line := p.at.lane(i)
			tx.Store64(line+doneOff, p.region.Load64(line+doneOff)+1)
			if p.at.log == Counted {
				tx.Store64(line+countOff, 0)
			}
		}
	}
	return errors.Join(bad, tx.Commit())
}

// interrupted is what has to be put into place in a lane, in that order.
func (p *Pool) interrupted(i int) ([]entry, error) {
	line, log := p.at.lane(i), p.log(i)
	committed, done := p.region.Load64(line+committedOff), p.region.Load64(line+doneOff)
	if committed > done+1 || done == math.MaxUint64 || p.at.log != Redo && committed != 0 {
		return nil, fmt.Errorf("%w: lane %d has committed transaction %d and ended %d; open another copy of the region", ErrDamaged, i, committed, done)
	}
	if p.at.log == Redo && committed != done+1 {
		return nil, nil
	}
	if p.at.log == Counted {
		log = log[:min(p.region.Load64(line+countOff), p.at.logSize)]
	}
	all := entries(log, done+1, p.at.size)
	switch {
	case p.at.log != Redo:
		slices.Reverse(all)
	case len(all) == 0 || !all[len(all)-1].last:
		return nil, fmt.Errorf("%w: of transaction %d of lane %d, which has committed, only %d entries are in the log; open another copy of the region",
			ErrDamaged, committed, i, len(all))
	}
	return all, nil
}

// log is the memory of a lane's log.
func (p *Pool) log(i int) []byte {
	return p.region.Bytes()[p.at.laneLog(i):][:p.at.logSize]
}
