package transact

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// epoch numbers the epochs of a thread, from zero, over all transactions.
func (w *Transact) epoch(number uint64) uint64 { return (number - 1) / uint64(w.p.Writes) }

// lastOf is the last write of the transaction that an epoch belongs to.
func (w *Transact) lastOf(epoch uint64) uint64 {
	return (epoch/uint64(w.p.Epochs) + 1) * uint64(w.p.Epochs) * uint64(w.p.Writes)
}

var errTorn = errors.New("torn")

// at is the number of the write that a slot holds, 0 if none. It is errTorn when parts are of another one.
func (p *program) at(thread int, slot uint64) (number uint64, err error) {
	off := headSize + (uint64(thread)*p.slots+slot)*p.pitch
	b := p.r.Bytes()[off : off+uint64(p.p.Bytes)]
	number = binary.LittleEndian.Uint64(b)
	if number != 0 && (number > 1<<48 || p.slot(thread, number) != slot) {
		return 0, fmt.Errorf("transact: slot %d of thread %d says that it holds write %d, which belongs elsewhere", slot, thread, number)
	}
	for i := 8; i < len(b); i += 8 {
		want := uint64(0)
		if number != 0 {
			want = mix(number*31 + uint64(i) + uint64(thread)<<56)
		}
		if binary.LittleEndian.Uint64(b[i:]) != want {
			return number, errTorn
		}
	}
	return number, nil
}

// scan finds the newest write that a thread's part holds, the slots that are torn, and what each slot holds.
func (p *program) scan(thread int) (newest uint64, torn []uint64, held []uint64, err error) {
	held = make([]uint64, p.slots)
	for slot := range p.slots {
		number, err := p.at(thread, slot)
		if err == errTorn {
			torn = append(torn, slot)
		} else if err != nil {
			return 0, nil, nil, err
		}
		held[slot], newest = number, max(newest, number)
	}
	return newest, torn, held, nil
}

// verify is scan, and an error unless the part holds a state that the order of epochs allows: everything of the epochs before
// the newest one that has begun, and any part of that; and everything up to the write committed.
func (p *program) verify(thread int, committed uint64) (newest uint64, torn bool, err error) {
	newest, tears, held, err := p.scan(thread)
	if err != nil {
		return 0, false, err
	}
	if newest == 0 && len(tears) == 0 {
		return 0, false, nil
	}
	// The newest epoch that has begun is that of the newest number seen, or the next one, of which no number may be here yet.
	last := uint64(0)
	if newest > 0 {
		last = p.epoch(newest) + 1
	}
	begun := map[uint64]bool{} // slots that the epochs in question write to
	for number := max(last, 1)*uint64(p.p.Writes) - uint64(p.p.Writes) + 1; number <= (last+1)*uint64(p.p.Writes); number++ {
		begun[p.slot(thread, number)] = true
	}
	for _, slot := range tears {
		if !begun[slot] {
			return 0, false, fmt.Errorf("transact: slot %d of thread %d is torn, and nothing was being written there: the newest write is %d", slot, thread, newest)
		}
	}
	complete := committed // all writes up to here must be there, unless a later one is in their place
	if newest > 0 {
		complete = max(complete, p.epoch(newest)*uint64(p.p.Writes))
	}
	want := make([]uint64, p.slots)
	for number := uint64(1); number <= complete; number++ {
		want[p.slot(thread, number)] = number
	}
	for slot, number := range want {
		if held[slot] < number {
			return 0, false, fmt.Errorf("transact: write %d of thread %d is missing (its slot %d holds %d), and write %d, of a later epoch, is there",
				number, thread, slot, held[slot], newest)
		}
	}
	return newest, len(tears) > 0, nil
}

// recover brings a thread's part to the end of a transaction: the newest epoch is written again, since it may be there in
// part, and the others of its transaction follow.
func (p *program) recover(thread int) error {
	newest, torn, err := p.verify(thread, 0)
	if err != nil {
		return err
	}
	if newest == 0 && !torn {
		p.next[thread] = 1
		return nil
	}
	begun := newest
	if torn {
		begun++ // the next epoch may have begun, and left nothing but a part of a write
	}
	first := p.epoch(max(newest, 1))*uint64(p.p.Writes) + 1
	return p.redo(thread, first, p.lastOf(p.epoch(begun)))
}

// redo writes from one write to another again.
func (p *program) redo(thread int, from, last uint64) error {
	tx, err := p.r.Begin()
	if err != nil {
		return err
	}
	buf := make([]byte, p.p.Bytes)
	p.next[thread] = from
	for number := from; number <= last; number++ {
		if number > from && (number-1)%uint64(p.p.Writes) == 0 {
			tx.Barrier()
		}
		p.write(tx, thread, buf)
	}
	return tx.Commit()
}

// Check implements workload.Program: every write of every transaction that has committed is there, whole, and nothing else.
func (p *program) Check() error {
	for thread, next := range p.next {
		newest, torn, err := p.verify(thread, next-1)
		switch {
		case err != nil:
			return err
		case torn:
			return fmt.Errorf("transact: a slot of thread %d is torn, and nothing is being written", thread)
		case newest != next-1:
			return fmt.Errorf("transact: the newest write of thread %d is %d, want %d", thread, newest, next-1)
		}
	}
	return nil
}
