package tpcc

import (
	"fmt"

	"whale/workload/whisper/app"
	"whale/workload/whisper/relational"
)

// Check implements workload.Program: the engine's own check, and the consistency conditions of clause 3.3.2. Condition 11, which
// is about the initial database, is checked as what it becomes: as many orders more are delivered as customers have had deliveries.
func (p *program) Check() error {
	return p.db.Look(func(tx *relational.Tx) error {
		if err := p.db.Check(tx); err != nil {
			return err
		}
		for w := 1; w <= p.p.Warehouses; w++ {
			if err := p.checkWarehouse(tx, w); err != nil {
				return fmt.Errorf("%w: warehouse %d: %w", app.ErrDamaged, w, err)
			}
		}
		return nil
	})
}

func (p *program) checkWarehouse(tx *relational.Tx, w int) error {
	paid := make([]int64, districts+1) // the histories' amounts, by district of the payment
	for d := 1; d <= districts; d++ {
		paid[d] = 0
	}
	p.history.Scan(tx, relational.Primary, 0, ^uint64(0), func(h relational.Tuple) bool {
		if d := h.Int(hDistrict); h.Int(hWarehouse) == int64(w) && d > 0 && d <= districts {
			paid[d] += h.Int(hAmount)
		}
		return true
	})
	warehouse, err := p.warehouse.Must(tx, uint64(w))
	if err != nil {
		return err
	}
	ytd, all := int64(0), int64(0)
	for d := 1; d <= districts; d++ {
		district, err := p.district.Must(tx, districtKey(w, d))
		if err != nil {
			return err
		}
		ytd, all = ytd+district.Int(dYTD), all+paid[d]
		if got := district.Int(dYTD); got != paid[d] {
			return fmt.Errorf("condition 9: district %d has been paid %d, and its history says %d", d, got, paid[d])
		}
		if err := p.checkDistrict(tx, w, d, int(district.Int(dNextOrder))); err != nil {
			return fmt.Errorf("district %d: %w", d, err)
		}
	}
	if got := warehouse.Int(wYTD); got != ytd || got != all {
		return fmt.Errorf("conditions 1 and 8: it has been paid %d, its districts %d, and the history says %d", got, ytd, all)
	}
	return nil
}

// account is what orders and payments say of a customer.
type account struct{ delivered, paid, deliveries int64 }

func (p *program) checkDistrict(tx *relational.Tx, w, d, next int) (err error) {
	low, high := orderKey(w, d, 0), orderKey(w, d, 0xffffffff)
	waiting, oldest, newest := map[uint64]bool{}, high, low
	p.newOrder.Scan(tx, relational.Primary, low, high, func(n relational.Tuple) bool {
		waiting[n.Key()] = true
		oldest, newest = min(oldest, n.Key()), n.Key()
		return true
	})
	if last, ok := p.orders.Last(tx, relational.Primary, low, high); !ok || last.Key() != orderKey(w, d, next-1) || len(waiting) > 0 && newest != last.Key() {
		return fmt.Errorf("condition 2: the next order is %d, the last one %#x, the last new one %#x", next, last.Key(), newest)
	}
	if n := uint64(len(waiting)); n > 0 && newest-oldest+1 != n {
		return fmt.Errorf("condition 3: %d new orders, from %#x to %#x", n, oldest, newest)
	}
	accounts := map[int64]*account{}
	for c := 1; c <= p.p.Customers; c++ {
		accounts[int64(c)] = &account{}
	}
	lines, orders := int64(0), 0
	p.orders.Scan(tx, relational.Primary, low, high, func(o relational.Tuple) bool {
		orders++
		var n int64
		n, err = p.checkOrder(tx, o, waiting[o.Key()], accounts[o.Int(oCustomer)])
		lines += n
		return err == nil
	})
	if err != nil {
		return err
	}
	if orders != next-1 {
		return fmt.Errorf("condition 2: %d orders, and the next one is %d", orders, next)
	}
	all := int64(0)
	p.lines.Scan(tx, relational.Primary, low<<4, high<<4|15, func(relational.Tuple) bool { all++; return true })
	if all != lines {
		return fmt.Errorf("condition 4: %d lines of orders, which say that they have %d", all, lines)
	}
	deliveries := int64(undelivered(p.p.Customers) - 1)
	for c, a := range accounts {
		if err := p.checkCustomer(tx, customerKey(w, d, int(c)), a); err != nil {
			return fmt.Errorf("customer %d: %w", c, err)
		}
		deliveries += a.deliveries
	}
	if got := int64(orders - len(waiting)); got != deliveries {
		return fmt.Errorf("condition 11: %d orders are delivered, and by what customers say %d", got, deliveries)
	}
	return nil
}

// checkOrder adds an order to its customer's account and says how many lines it has.
func (p *program) checkOrder(tx *relational.Tx, o relational.Tuple, waiting bool, a *account) (lines int64, err error) {
	if a == nil {
		return 0, fmt.Errorf("order %#x is of customer %d", o.Key(), o.Int(oCustomer))
	}
	if (o.Int(oCarrier) == 0) != waiting {
		return 0, fmt.Errorf("condition 5: order %#x has carrier %d, and is among the new ones: %v", o.Key(), o.Int(oCarrier), waiting)
	}
	p.lines.Scan(tx, relational.Primary, o.Key()<<4, o.Key()<<4|15, func(line relational.Tuple) bool {
		lines++
		if (line.Int(lDelivery) == 0) != waiting {
			err = fmt.Errorf("condition 7: line %d of order %#x is delivered at %d, its order has carrier %d", lines, o.Key(), line.Int(lDelivery), o.Int(oCarrier))
		}
		if !waiting {
			a.delivered += line.Int(lAmount)
		}
		return err == nil
	})
	if err == nil && lines != o.Int(oLines) {
		err = fmt.Errorf("condition 6: order %#x has %d lines and says %d", o.Key(), lines, o.Int(oLines))
	}
	return lines, err
}

// checkCustomer compares a customer with the account, and fills in how many deliveries there were.
func (p *program) checkCustomer(tx *relational.Tx, key uint64, a *account) error {
	c, err := p.customer.Must(tx, key)
	if err != nil {
		return err
	}
	payments := int64(0)
	p.history.Scan(tx, relational.Primary, historyKey(key, 0), historyKey(key, 1<<24-1), func(h relational.Tuple) bool {
		payments++
		a.paid += h.Int(hAmount)
		return true
	})
	a.deliveries = c.Int(cDeliveries)
	switch balance := c.Int(cBalance); {
	case balance != a.delivered-a.paid:
		return fmt.Errorf("condition 10: a balance of %d, after deliveries of %d and payments of %d", balance, a.delivered, a.paid)
	case balance+c.Int(cYTDPayment) != a.delivered:
		return fmt.Errorf("condition 12: a balance of %d and payments of %d, after deliveries of %d", balance, c.Int(cYTDPayment), a.delivered)
	case c.Int(cPayments) != payments:
		return fmt.Errorf("%d payments, and the history has %d", c.Int(cPayments), payments)
	}
	return nil
}

// Content implements app.Program.
func (p *program) Content() (sum uint64) {
	p.db.Look(func(tx *relational.Tx) error {
		sum = p.db.Content(tx)
		return nil
	})
	return sum
}
