package tpcc

import (
	"whale/workload"
	"whale/workload/whisper/relational"
)

// loader makes the initial database.
type loader struct {
	tables
	p Params
	t *workload.Thread
}

const (
	initialPayment  = 10_00 // each customer has paid that
	initialQuantity = 5
	creditLimit     = 50_000_00
)

// undelivered is the first order of a district that is not delivered: 30% are not.
func undelivered(customers int) int { return customers*7/10 + 1 }

// batched runs f for each number from 1 to n, some of them a transaction.
func (l *loader) batched(n int, f func(tx *relational.Tx, g random, i int) error) error {
	const batch = 10
	g := random{l.t.Rand, l.p}
	for from := 1; from <= n; from += batch {
		err := l.db.Run(l.t, func(tx *relational.Tx) error {
			for i := from; i < min(from+batch, n+1); i++ {
				if err := f(tx, g, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) load() error {
	err := l.batched(l.p.Items, func(tx *relational.Tx, g random, i int) error {
		return l.item.Insert(tx, uint64(i), relational.Row{{Int: int64(g.in(1, 10_000))}, {Text: g.text(14, 24)}, {Int: int64(g.in(1_00, 100_00))}, {Text: g.data()}})
	})
	for w := 1; w <= l.p.Warehouses && err == nil; w++ {
		err = l.loadWarehouse(w)
	}
	return err
}

func addressOf(g random) relational.Row {
	return relational.Row{{Text: g.text(10, 20)}, {Text: g.text(10, 20)}, {Text: g.text(10, 20)}, {Text: g.text(2, 2)}, {Text: g.zip()}}
}

func rows(parts ...relational.Row) (all relational.Row) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func (l *loader) loadWarehouse(w int) error {
	err := l.batched(1, func(tx *relational.Tx, g random, _ int) error {
		return l.warehouse.Insert(tx, uint64(w), rows(relational.Row{{Text: g.text(6, 10)}}, addressOf(g),
			relational.Row{{Int: int64(g.in(0, 2000))}, {Int: int64(districts * l.p.Customers * initialPayment)}}))
	})
	if err != nil {
		return err
	}
	err = l.batched(l.p.Items, func(tx *relational.Tx, g random, i int) error {
		row := relational.Row{{Int: int64(g.in(10, 100))}, {}, {}, {}, {Text: g.data()}}
		for range districts {
			row = append(row, relational.Value{Text: g.text(24, 24)})
		}
		return l.stock.Insert(tx, stockKey(w, i), row)
	})
	for d := 1; d <= districts && err == nil; d++ {
		err = l.loadDistrict(w, d)
	}
	return err
}

func (l *loader) loadDistrict(w, d int) error {
	err := l.batched(1, func(tx *relational.Tx, g random, _ int) error {
		return l.district.Insert(tx, districtKey(w, d), rows(relational.Row{{Text: g.text(6, 10)}}, addressOf(g),
			relational.Row{{Int: int64(g.in(0, 2000))}, {Int: int64(l.p.Customers * initialPayment)}, {Int: int64(l.p.Customers + 1)}}))
	})
	if err == nil {
		err = l.batched(l.p.Customers, func(tx *relational.Tx, g random, c int) error { return l.loadCustomer(tx, g, w, d, c) })
	}
	if err != nil {
		return err
	}
	customers := l.t.Rand.Perm(l.p.Customers) // each has one order
	return l.batched(l.p.Customers, func(tx *relational.Tx, g random, o int) error {
		return l.loadOrder(tx, g, w, d, o, 1+customers[o-1])
	})
}

func (l *loader) loadCustomer(tx *relational.Tx, g random, w, d, c int) error {
	last, credit := lastName(min(c-1, 999)), "GC"
	if c > 1000 {
		last = g.lastName()
	}
	if g.IntN(10) == 0 {
		credit = badCredit
	}
	key := customerKey(w, d, c)
	err := l.customer.Insert(tx, key, rows(relational.Row{{Text: g.text(8, 16)}, {Text: "OE"}, {Text: last}}, addressOf(g),
		relational.Row{{Text: g.number(16)}, {Int: initialDate}, {Text: credit}, {Int: creditLimit}, {Int: int64(g.in(0, 5000))},
			{Int: -initialPayment}, {Int: initialPayment}, {Int: 1}, {Int: 0}, {Text: g.text(300, 500)}}))
	if err != nil {
		return err
	}
	return l.history.Insert(tx, historyKey(key, 1), relational.Row{{Int: int64(w)}, {Int: int64(d)}, {Int: initialDate}, {Int: initialPayment}, {Text: g.text(12, 24)}})
}

func (l *loader) loadOrder(tx *relational.Tx, g random, w, d, o, c int) error {
	lines, carrier, delivered := g.in(5, 15), 0, int64(0)
	if o < undelivered(l.p.Customers) {
		carrier, delivered = g.in(1, 10), initialDate
	} else if err := l.newOrder.Insert(tx, orderKey(w, d, o), nil); err != nil {
		return err
	}
	err := l.orders.Insert(tx, orderKey(w, d, o), relational.Row{{Int: int64(c)}, {Int: initialDate}, {Int: int64(carrier)}, {Int: int64(lines)}, {Int: 1}})
	for n := 1; n <= lines && err == nil; n++ {
		amount := int64(0)
		if delivered == 0 {
			amount = int64(g.in(1, 9999_99))
		}
		err = l.lines.Insert(tx, lineKey(w, d, o, n), relational.Row{{Int: int64(g.in(1, l.p.Items))}, {Int: int64(w)}, {Int: delivered},
			{Int: initialQuantity}, {Int: amount}, {Text: g.text(24, 24)}})
	}
	return err
}
