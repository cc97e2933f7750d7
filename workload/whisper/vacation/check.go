package vacation

import (
	"errors"
	"fmt"

	"whale/workload/whisper/app"
	"whale/workload/whisper/btree"
	"whale/workload/whisper/tm"
)

// Check implements workload.Program: of each resource, used and free ones are all there are, and as many are used as customers
// have booked; and the tables own all blocks.
func (p *program) Check() error {
	return p.mem.Look(func(tx *tm.Tx) error {
		c := checker{agency: &p.agency, tx: tx, used: map[resource]uint64{}}
		for k := range resources {
			if err := c.each(p.table(k), resourceSize, func(id, at uint64) error { return c.resource(k, id, at) }); err != nil {
				return err
			}
		}
		if err := c.each(p.customers(), customerSize, c.customer); err != nil {
			return err
		}
		for r, n := range c.used {
			if n != 0 {
				return fmt.Errorf("%w: %d more of kind %d, id %d are used than customers have booked", app.ErrDamaged, int64(n), r.kind, r.id)
			}
		}
		return p.data.Owned(c.blocks)
	})
}

type checker struct {
	*agency
	tx     *tm.Tx
	used   map[resource]uint64 // without what was booked
	blocks []uint64
}

// each checks a table and visits its records.
func (c *checker) each(t btree.Tree, size uint64, visit func(id, at uint64) error) (err error) {
	if err := t.Check(c.tx, c.data.Region.Size(), func(node uint64) { c.blocks = append(c.blocks, node) }); err != nil {
		return err
	}
	t.Scan(c.tx, 0, ^uint64(0), func(id, at uint64) bool {
		if err = c.record(at, size); err != nil {
			return false
		}
		if c.tx.Load64(at) != id {
			err = fmt.Errorf("%w: what the table has as %d calls itself %d", app.ErrDamaged, id, c.tx.Load64(at))
			return false
		}
		err = visit(id, at)
		return err == nil
	})
	return err
}

// record says whether a record can be at a place, and notes that there is one.
func (c *checker) record(at, size uint64) error {
	c.blocks = append(c.blocks, at)
	if len(c.blocks) > len(c.data.Region.Bytes())/bookingSize {
		return fmt.Errorf("%w: bookings go round in a circle", app.ErrDamaged)
	}
	if at%16 != 0 {
		return fmt.Errorf("%w: no record can be at %d", app.ErrDamaged, at)
	}
	_, err := c.data.Bytes(at, size)
	return err
}

func (c *checker) resource(k kind, id, at uint64) error {
	used, free, total := c.tx.Load64(at+usedOff), c.tx.Load64(at+freeOff), c.tx.Load64(at+totalOff)
	if used > total || free > total || used+free != total || total == 0 {
		return fmt.Errorf("%w: of kind %d, id %d, %d are used and %d free, of %d", app.ErrDamaged, k, id, used, free, total)
	}
	c.used[resource{k, id}] += used
	return nil
}

func (c *checker) customer(id, who uint64) error {
	return c.bookings(who, func(k kind, id, price uint64) { c.used[resource{k, id}]-- })
}

func (c *checker) bookings(who uint64, visit func(k kind, id, price uint64)) error {
	for at := c.tx.Load64(who + bookingsOff); at != 0; at = c.tx.Load64(at + nextOff) {
		if err := c.record(at, bookingSize); err != nil {
			return err
		}
		k := c.tx.Load64(at)
		if k >= uint64(resources) {
			return fmt.Errorf("%w: a booking of kind %d", app.ErrDamaged, k)
		}
		visit(kind(k), c.tx.Load64(at+idOff), c.tx.Load64(at+paidOff))
	}
	return nil
}

// Content implements app.Program: all resources, and what each customer has booked.
func (p *program) Content() uint64 {
	var sum app.Sum
	err := p.mem.Look(func(tx *tm.Tx) error {
		c := checker{agency: &p.agency, tx: tx}
		for k := range resources {
			p.table(k).Scan(tx, 0, ^uint64(0), func(id, at uint64) bool {
				sum.Add(uint64(k)<<56|id, record(tx.Load64(at+usedOff), tx.Load64(at+freeOff), tx.Load64(at+totalOff), tx.Load64(at+priceOff)))
				return true
			})
		}
		var err error
		p.customers().Scan(tx, 0, ^uint64(0), func(customer, who uint64) bool {
			sum.Add(uint64(resources)<<56|customer, nil)
			err = errors.Join(err, c.bookings(who, func(k kind, id, price uint64) {
				sum.Add(uint64(resources+1)<<56|customer, record(uint64(k), id, price))
			}))
			return err == nil
		})
		return err
	})
	if err != nil {
		return 0 // which Check finds
	}
	return uint64(sum)
}
