package vacation

import (
	"encoding/binary"

	"whale/workload/whisper/app"
	"whale/workload/whisper/btree"
	"whale/workload/whisper/tm"
)

// kind is what can be booked.
type kind int

const (
	car kind = iota
	flight
	room
	resources // how many kinds there are
)

type resource struct {
	kind kind
	id   uint64
}

// agency is the tables: a tree for each kind of resource and one of customers, whose roots are the first words of the root
// object.
//
// A resource, 64 bytes: id, used, free, total, price. A customer, 32 bytes: id, newest booking. A booking, 32 bytes: kind,
// id, price, the customer's next booking.
type agency struct {
	mem  *tm.Memory
	data *app.Data
}

const (
	usedOff, freeOff, totalOff, priceOff = 8, 16, 24, 32
	resourceSize                         = 64

	bookingsOff  = 8
	customerSize = 32

	idOff, paidOff, nextOff = 8, 16, 24
	bookingSize             = 32
)

func (a *agency) table(k kind) btree.Tree { return btree.Tree{Root: a.data.Root + 8*uint64(k)} }
func (a *agency) customers() btree.Tree   { return btree.Tree{Root: a.data.Root + 8*uint64(resources)} }
func add(tx *tm.Tx, at uint64, n int)     { tx.Store64(at, tx.Load64(at)+uint64(n)) }
func record(words ...uint64) (b []byte)   { return pad(b, words) }
func pad(b []byte, words []uint64) (_ []byte) {
	for _, v := range words {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// create makes a record in a tree.
func create(tx *tm.Tx, in btree.Tree, key, size uint64, words ...uint64) error {
	at, err := tx.Alloc(size)
	if err != nil {
		return err
	}
	tx.Write(at, record(words...))
	return in.Insert(tx, key, at)
}

// offer offers n more of a resource, and has a price from now on.
func (a *agency) offer(tx *tm.Tx, k kind, id, n, price uint64) error {
	at, ok := a.table(k).Get(tx, id)
	if !ok {
		return create(tx, a.table(k), id, resourceSize, id, 0, n, n, price)
	}
	add(tx, at+freeOff, int(n))
	add(tx, at+totalOff, int(n))
	tx.Store64(at+priceOff, price)
	return nil
}

// withdraw offers n less, if as many are free. Who is offered no more goes.
func (a *agency) withdraw(tx *tm.Tx, k kind, id, n uint64) error {
	at, ok := a.table(k).Get(tx, id)
	if !ok || tx.Load64(at+freeOff) < n {
		return nil
	}
	if tx.Load64(at+totalOff) == n {
		if _, _, err := a.table(k).Delete(tx, id); err != nil {
			return err
		}
		return tx.Free(at)
	}
	add(tx, at+freeOff, -int(n))
	add(tx, at+totalOff, -int(n))
	return nil
}

// addCustomer makes a customer known.
func (a *agency) addCustomer(tx *tm.Tx, id uint64) error {
	if _, ok := a.customers().Get(tx, id); ok {
		return nil
	}
	return create(tx, a.customers(), id, customerSize, id, 0)
}

// book books, for a customer, the dearest of each kind of what is wished for.
func (a *agency) book(tx *tm.Tx, customer uint64, wishes []resource) error {
	var best [resources]struct{ at, id, price uint64 }
	found := false
	for _, w := range wishes {
		at, ok := a.table(w.kind).Get(tx, w.id)
		if !ok {
			continue
		}
		found = true
		if p := tx.Load64(at + priceOff); p > best[w.kind].price && tx.Load64(at+freeOff) > 0 {
			best[w.kind].at, best[w.kind].id, best[w.kind].price = at, w.id, p
		}
	}
	if !found {
		return nil
	}
	if err := a.addCustomer(tx, customer); err != nil {
		return err
	}
	who, _ := a.customers().Get(tx, customer)
	for k, b := range best {
		if b.at == 0 || has(tx, who, kind(k), b.id) {
			continue
		}
		booking, err := tx.Alloc(bookingSize)
		if err != nil {
			return err
		}
		tx.Write(booking, record(uint64(k), b.id, b.price, tx.Load64(who+bookingsOff)))
		tx.Store64(who+bookingsOff, booking)
		add(tx, b.at+usedOff, 1)
		add(tx, b.at+freeOff, -1)
	}
	return nil
}

// has says whether a customer has booked a resource.
func has(tx *tm.Tx, who uint64, k kind, id uint64) bool {
	for at := tx.Load64(who + bookingsOff); at != 0; at = tx.Load64(at + nextOff) {
		if tx.Load64(at) == uint64(k) && tx.Load64(at+idOff) == id {
			return true
		}
	}
	return false
}

// removeCustomer cancels all that a customer has booked and forgets the customer.
func (a *agency) removeCustomer(tx *tm.Tx, customer uint64) error {
	who, ok, err := a.customers().Delete(tx, customer)
	if !ok || err != nil {
		return err
	}
	for at := tx.Load64(who + bookingsOff); at != 0; {
		r, _ := a.table(kind(tx.Load64(at))).Get(tx, tx.Load64(at+idOff)) // which is there as long as it is booked
		add(tx, r+usedOff, -1)
		add(tx, r+freeOff, 1)
		next := tx.Load64(at + nextOff)
		if err := tx.Free(at); err != nil {
			return err
		}
		at = next
	}
	return tx.Free(who)
}
