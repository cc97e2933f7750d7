package tpcc

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"whale/workload/whisper/relational"
)

// errRollback ends the one new order in a hundred whose last item does not exist (clause 2.4.1.4).
var errRollback = errors.New("tpcc: item number is not valid")

const badCredit = "BC"

// Each transaction is drawn before it runs, so that it is the same one when it has to run again.

type wanted struct{ item, supply, quantity int }

// drawNewOrder is clause 2.4.
func (p *program) drawNewOrder(g random, w int) func(*relational.Tx) error {
	d, c, date := g.in(1, districts), g.customer(), p.date()
	all := make([]wanted, g.in(5, 15))
	for i := range all {
		all[i] = wanted{g.item(), w, g.in(1, 10)}
		if p.p.Warehouses > 1 && g.in(1, 100) == 1 {
			all[i].supply = p.other(g, w)
		}
	}
	if g.in(1, 100) == 1 {
		all[len(all)-1].item = p.p.Items + 1
	}
	return func(tx *relational.Tx) error { return p.runNewOrder(tx, w, d, c, date, all) }
}

// other is another warehouse.
func (p *program) other(g random, w int) int {
	o := g.in(1, p.p.Warehouses-1)
	if o >= w {
		o++
	}
	return o
}

func (p *program) runNewOrder(tx *relational.Tx, w, d, c int, date int64, all []wanted) error {
	warehouse, err := p.warehouse.Must(tx, uint64(w))
	if err != nil {
		return err
	}
	district, err := p.district.Must(tx, districtKey(w, d))
	if err != nil {
		return err
	}
	customer, err := p.customer.Must(tx, customerKey(w, d, c))
	if err != nil {
		return err
	}
	_, _, _ = warehouse.Int(wTax), district.Int(dTax), customer.Int(cDiscount) // for the total, which a terminal would show
	_, _ = customer.Text(cLast), customer.Text(cCredit)
	o := int(district.Int(dNextOrder))
	district.SetInt(dNextOrder, int64(o+1))
	local := int64(1)
	for _, a := range all {
		if a.supply != w {
			local = 0
		}
	}
	err = p.orders.Insert(tx, orderKey(w, d, o), relational.Row{{Int: int64(c)}, {Int: date}, {}, {Int: int64(len(all))}, {Int: local}})
	if err == nil {
		err = p.newOrder.Insert(tx, orderKey(w, d, o), nil)
	}
	for i := 0; i < len(all) && err == nil; i++ {
		err = p.orderLine(tx, w, d, o, i+1, all[i])
	}
	return err
}

func (p *program) orderLine(tx *relational.Tx, w, d, o, number int, a wanted) error {
	item, ok := p.item.Get(tx, uint64(a.item))
	if !ok {
		return errRollback
	}
	stock, err := p.stock.Must(tx, stockKey(a.supply, a.item))
	if err != nil {
		return err
	}
	_, _, _ = item.Text(iName), item.Text(iData), stock.Text(sData) // for the brand-generic indicator
	left := stock.Int(sQuantity) - int64(a.quantity)
	if left < 10 {
		left += 91
	}
	stock.SetInt(sQuantity, left)
	stock.SetInt(sYTD, stock.Int(sYTD)+int64(a.quantity))
	stock.SetInt(sOrders, stock.Int(sOrders)+1)
	if a.supply != w {
		stock.SetInt(sRemote, stock.Int(sRemote)+1)
	}
	return p.lines.Insert(tx, lineKey(w, d, o, number), relational.Row{{Int: int64(a.item)}, {Int: int64(a.supply)}, {},
		{Int: int64(a.quantity)}, {Int: int64(a.quantity) * item.Int(iPrice)}, {Text: stock.Text(sInfo + d - 1)}})
}

// chosen says which customer a transaction is about: by number, or, if that is 0, by last name.
type chosen struct {
	w, d, c int
	last    string
}

// choose is clause 2.5.1.2: 60% by name.
func (g random) choose(w, d int) chosen {
	if g.in(1, 100) <= 60 {
		return chosen{w: w, d: d, last: g.lastName()}
	}
	return chosen{w: w, d: d, c: g.customer()}
}

// find finds the customer. Of those with the same name it is the one in the middle, by first name.
func (p *program) find(tx *relational.Tx, who chosen) (relational.Tuple, error) {
	if who.c != 0 {
		return p.customer.Must(tx, customerKey(who.w, who.d, who.c))
	}
	type named struct {
		first string
		relational.Tuple
	}
	var all []named
	district := districtKey(who.w, who.d)
	p.customer.Scan(tx, byName, nameKey(district, who.last, 0), nameKey(district, who.last, 0xffff), func(u relational.Tuple) bool {
		if u.Text(cLast) == who.last {
			all = append(all, named{u.Text(cFirst), u})
		}
		return true
	})
	if len(all) == 0 {
		return relational.Tuple{}, fmt.Errorf("tpcc: district %d of warehouse %d has no customer %s", who.d, who.w, who.last)
	}
	slices.SortStableFunc(all, func(a, b named) int { return strings.Compare(a.first, b.first) })
	return all[(len(all)-1)/2].Tuple, nil
}

// drawPayment is clause 2.5.
func (p *program) drawPayment(g random, w int) func(*relational.Tx) error {
	d, amount, date := g.in(1, districts), int64(g.in(1_00, 5000_00)), p.date()
	who := g.choose(w, d)
	if p.p.Warehouses > 1 && g.in(1, 100) > 85 {
		who = g.choose(p.other(g, w), g.in(1, districts))
	}
	return func(tx *relational.Tx) error { return p.runPayment(tx, w, d, who, amount, date) }
}

func (p *program) runPayment(tx *relational.Tx, w, d int, who chosen, amount, date int64) error {
	warehouse, err := p.warehouse.Must(tx, uint64(w))
	if err != nil {
		return err
	}
	warehouse.SetInt(wYTD, warehouse.Int(wYTD)+amount)
	district, err := p.district.Must(tx, districtKey(w, d))
	if err != nil {
		return err
	}
	district.SetInt(dYTD, district.Int(dYTD)+amount)
	customer, err := p.find(tx, who)
	if err != nil {
		return err
	}
	payments := customer.Int(cPayments) + 1
	customer.SetInt(cBalance, customer.Int(cBalance)-amount)
	customer.SetInt(cYTDPayment, customer.Int(cYTDPayment)+amount)
	customer.SetInt(cPayments, payments)
	if customer.Text(cCredit) == badCredit {
		data := fmt.Sprintf("%d %d %d %d %d %d|%s", customer.Key()&0xffff, who.d, who.w, d, w, amount, customer.Text(cData))
		if err := customer.SetText(cData, data[:min(500, len(data))]); err != nil {
			return err
		}
	}
	return p.history.Insert(tx, historyKey(customer.Key(), payments), relational.Row{{Int: int64(w)}, {Int: int64(d)}, {Int: date}, {Int: amount},
		{Text: warehouse.Text(wName) + "    " + district.Text(dName)}})
}

// drawOrderStatus is clause 2.6.
func (p *program) drawOrderStatus(g random, w int) func(*relational.Tx) error {
	who := g.choose(w, g.in(1, districts))
	return func(tx *relational.Tx) error {
		customer, err := p.find(tx, who)
		if err != nil {
			return err
		}
		_, _, _ = customer.Int(cBalance), customer.Text(cFirst), customer.Text(cMiddle)
		order, ok := p.orders.Last(tx, byCustomer, customer.Key()<<32, customer.Key()<<32|0xffffffff)
		if !ok {
			return fmt.Errorf("tpcc: customer %#x has no order", customer.Key())
		}
		p.lines.Scan(tx, relational.Primary, order.Key()<<4, order.Key()<<4|15, func(line relational.Tuple) bool {
			_, _, _, _ = line.Int(lItem), line.Int(lSupply), line.Int(lQuantity), line.Int(lAmount)
			return true
		})
		return nil
	}
}

// drawDelivery is clause 2.7: of each district the oldest order that is not delivered, all in one transaction.
func (p *program) drawDelivery(g random, w int) func(*relational.Tx) error {
	carrier, date := int64(g.in(1, 10)), p.date()
	return func(tx *relational.Tx) error {
		for d := 1; d <= districts; d++ {
			first, ok := p.newOrder.First(tx, relational.Primary, orderKey(w, d, 0), orderKey(w, d, 0xffffffff))
			if !ok {
				continue
			}
			if err := p.deliver(tx, first, carrier, date); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p *program) deliver(tx *relational.Tx, first relational.Tuple, carrier, date int64) error {
	key := first.Key()
	if err := p.newOrder.Delete(tx, first); err != nil {
		return err
	}
	order, err := p.orders.Must(tx, key)
	if err != nil {
		return err
	}
	order.SetInt(oCarrier, carrier)
	sum := int64(0)
	p.lines.Scan(tx, relational.Primary, key<<4, key<<4|15, func(line relational.Tuple) bool {
		sum += line.Int(lAmount)
		line.SetInt(lDelivery, date)
		return true
	})
	customer, err := p.customer.Must(tx, key>>32<<16|uint64(order.Int(oCustomer)))
	if err != nil {
		return err
	}
	customer.SetInt(cBalance, customer.Int(cBalance)+sum)
	customer.SetInt(cDeliveries, customer.Int(cDeliveries)+1)
	return nil
}

// drawStockLevel is clause 2.8: how many items of the last 20 orders of a district are scarce.
func (p *program) drawStockLevel(g random, w int) func(*relational.Tx) error {
	d, threshold := g.in(1, districts), int64(g.in(10, 20))
	return func(tx *relational.Tx) error {
		district, err := p.district.Must(tx, districtKey(w, d))
		if err != nil {
			return err
		}
		next := int(district.Int(dNextOrder))
		scarce := map[int64]bool{}
		p.lines.Scan(tx, relational.Primary, lineKey(w, d, max(1, next-20), 0), lineKey(w, d, next-1, 15), func(line relational.Tuple) bool {
			item := line.Int(lItem)
			if _, seen := scarce[item]; seen {
				return true
			}
			var stock relational.Tuple
			if stock, err = p.stock.Must(tx, stockKey(w, int(item))); err == nil {
				scarce[item] = stock.Int(sQuantity) < threshold
			}
			return err == nil
		})
		return err
	}
}
