package memcached

import (
	"fmt"

	"whale/mirror/ptx"
	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/chain"
)

// part is a part of the cache. Under lock, from the first look until Commit has returned.
type part struct {
	*app.Data
	lock  app.Lock
	root  uint64 // place of its line
	most  uint64 // items
	table chain.Table
	value []byte // of the request under way; as long as the longest
}

// find looks for a key.
func (s *part) find(t *workload.Thread, key uint64) (item, link uint64) {
	item, link, steps := s.table.Find(s.Region, app.Mix(key), func(e uint64) bool { return s.Region.Load64(e+itemKey) == key })
	s.Visit(t, 1+steps)
	return item, link
}

// valueOf is an item's value, if it is right.
func (s *part) valueOf(item uint64) ([]byte, error) {
	n := s.Region.Load64(item + itemLen)
	if n > uint64(len(s.value)) {
		return nil, fmt.Errorf("%w: the item at %d has %d bytes, want %d at most", app.ErrDamaged, item, n, len(s.value))
	}
	b, err := s.Bytes(item+itemValue, n)
	if err == nil && !app.Filled(b, filling(s.Region.Load64(item+itemKey), s.Region.Load64(item+itemCAS), n)) {
		err = fmt.Errorf("%w: the value of the item at %d does not follow from its key and number", app.ErrDamaged, item)
	}
	return b, err
}

// filling is what an item's value follows from.
func filling(key, cas, n uint64) uint64 { return key ^ app.Mix(cas^n<<48) }

// unlink takes an item out of the list.
func (s *part) unlink(tx *ptx.Tx, item uint64) {
	newer, older := tx.Load64(item+itemNewer), tx.Load64(item+itemOlder)
	if newer != 0 {
		tx.Store64(newer+itemOlder, older)
	} else {
		tx.Store64(s.root+partFront, older)
	}
	if older != 0 {
		tx.Store64(older+itemNewer, newer)
	} else {
		tx.Store64(s.root+partBack, newer)
	}
}

// link puts an item at the front of the list.
func (s *part) link(tx *ptx.Tx, item uint64) {
	front := tx.Load64(s.root + partFront)
	tx.Store64(item+itemNewer, 0)
	tx.Store64(item+itemOlder, front)
	if front != 0 {
		tx.Store64(front+itemNewer, item)
	} else {
		tx.Store64(s.root+partBack, item)
	}
	tx.Store64(s.root+partFront, item)
}

// store stores a new item of n bytes, in place of old, to which the word at link refers; if there is none and no room, in place of the item
// that was not used for the longest time.
func (s *part) store(t *workload.Thread, key, old, link uint64, n int) error {
	if old == 0 && s.Region.Load64(s.root+partCount) >= s.most {
		back, steps := s.Region.Load64(s.root+partBack), 0
		old, link, steps = s.table.Find(s.Region, chain.Hash(s.Region, back), func(e uint64) bool { return e == back })
		s.Visit(t, 1+steps)
	}
	return s.Do(func(tx *ptx.Tx) error {
		if old != 0 {
			chain.Remove(tx, old, link)
			s.unlink(tx, old)
			if err := tx.Free(old); err != nil {
				return err
			}
		} else {
			tx.Store64(s.root+partCount, tx.Load64(s.root+partCount)+1)
		}
		cas := tx.Load64(s.root+partCAS) + 1
		tx.Store64(s.root+partCAS, cas)
		item, err := tx.Alloc(itemValue + uint64(n))
		if err != nil {
			return err
		}
		app.Fill(s.value[:n], filling(key, cas, uint64(n)))
		tx.Store64(item+itemKey, key)
		tx.Store64(item+itemCAS, cas)
		tx.Store64(item+itemLen, uint64(n))
		tx.Write(item+itemValue, s.value[:n])
		s.table.Push(tx, item, app.Mix(key))
		s.link(tx, item)
		return nil
	})
}

// check says what is wrong with the part, and else which blocks are its own.
func (s *part) check(index uint64) (used []uint64, err error) {
	if at := s.Region.Load64(s.root + partTable); at != s.table.At {
		return nil, fmt.Errorf("%w: its table is at %d, and was at %d", app.ErrDamaged, at, s.table.At)
	}
	newest := s.Region.Load64(s.root + partCAS)
	items, numbers := map[uint64]bool{}, map[uint64]bool{}
	err = s.table.Walk(s.Data, itemValue, func(item uint64) error {
		key, cas := s.Region.Load64(item+itemKey), s.Region.Load64(item+itemCAS)
		switch h := chain.Hash(s.Region, item); {
		case app.Mix(key) != h || h>>60 != index:
			return fmt.Errorf("%w: the item at %d has key %d, and hash %#x", app.ErrDamaged, item, key, h)
		case cas == 0 || cas > newest || numbers[cas]:
			return fmt.Errorf("%w: the item at %d has number %d; the newest one is %d, and no two have the same", app.ErrDamaged, item, cas, newest)
		}
		numbers[cas], items[item] = true, true
		used = append(used, item)
		_, err := s.valueOf(item)
		return err
	})
	if err != nil {
		return nil, err
	}
	if n := s.Region.Load64(s.root + partCount); n != uint64(len(items)) || n > s.most {
		return nil, fmt.Errorf("%w: %d items, %d are counted, and %d may be", app.ErrDamaged, len(items), n, s.most)
	}
	newer := uint64(0)
	for item := s.Region.Load64(s.root + partFront); item != 0; item = s.Region.Load64(item + itemOlder) {
		if !items[item] || s.Region.Load64(item+itemNewer) != newer {
			return nil, fmt.Errorf("%w: the list has %d behind %d, and that is no item, there twice, or of another opinion", app.ErrDamaged, item, newer)
		}
		delete(items, item)
		newer = item
	}
	if back := s.Region.Load64(s.root + partBack); back != newer || len(items) > 0 {
		return nil, fmt.Errorf("%w: the list ends at %d, want %d, and %d items are not in it", app.ErrDamaged, newer, back, len(items))
	}
	return append(used, s.table.At), nil
}
