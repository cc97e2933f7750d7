package store

import "bytes"

// ownWrites finds a key among a transaction's writes. Few are compared one by one; for many there is a hash table.
type ownWrites struct {
	table   []uint64 // round << 32 | place in writes; open addressing
	round   uint32   // entries of other rounds are empty
	inTable int      // writes that are in the table
}

const fewWrites = 8

func (o *ownWrites) clear() {
	if o.inTable > 0 {
		o.round++
		if o.round == 0 {
			clear(o.table)
			o.round = 1
		}
	}
	o.inTable = 0
}

func (o *ownWrites) find(writes []write, hash uint64, key []byte) *write {
	if len(writes) <= fewWrites {
		for i := range writes {
			if w := &writes[i]; w.hash == hash && bytes.Equal(w.key, key) {
				return w
			}
		}
		return nil
	}
	mask := uint64(len(o.table) - 1)
	for i := hash & mask; uint32(o.table[i]>>32) == o.round; i = (i + 1) & mask {
		if w := &writes[uint32(o.table[i])]; w.hash == hash && bytes.Equal(w.key, key) {
			return w
		}
	}
	return nil
}

// add takes in the last of the writes.
func (o *ownWrites) add(writes []write) {
	if len(writes) <= fewWrites {
		return
	}
	if 2*len(writes) > len(o.table) {
		o.table, o.round, o.inTable = make([]uint64, max(64, 2*len(o.table))), 1, 0
	}
	mask := uint64(len(o.table) - 1)
	for ; o.inTable < len(writes); o.inTable++ {
		i := writes[o.inTable].hash & mask
		for uint32(o.table[i]>>32) == o.round {
			i = (i + 1) & mask
		}
		o.table[i] = uint64(o.round)<<32 | uint64(o.inTable)
	}
}
