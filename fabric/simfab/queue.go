package simfab

// queue is a first-in first-out queue whose elements are also reached by their position: the n-th ever pushed has
// position n. It grows, and reuses its room.
type queue[T any] struct {
	ring       []T // a power of two long
	head, tail uint64
}

func (q *queue[T]) len() int { return int(q.tail - q.head) }

// at is the element at a position in [head, tail).
func (q *queue[T]) at(pos uint64) *T { return &q.ring[pos&uint64(len(q.ring)-1)] }

func (q *queue[T]) push(v T) {
	if q.len() == len(q.ring) {
		bigger := make([]T, max(16, 2*len(q.ring)))
		for pos := q.head; pos < q.tail; pos++ {
			bigger[pos&uint64(len(bigger)-1)] = *q.at(pos)
		}
		q.ring = bigger
	}
	q.tail++
	*q.at(q.tail - 1) = v
}

func (q *queue[T]) pop() T {
	var zero T
	at := q.at(q.head)
	v := *at
	*at = zero
	q.head++
	return v
}
