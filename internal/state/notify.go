package state

// Notify wakes the one goroutine that waits for work. Notifications that come
// before it looks are one. Make it with [NewNotify].
type Notify chan struct{}

// NewNotify returns a Notify without a notification in it.
func NewNotify() Notify { return make(Notify, 1) }

// Notify leaves a notification. It never blocks.
func (n Notify) Notify() {
	select {
	case n <- struct{}{}:
	default:
	}
}

// C receives the notification.
func (n Notify) C() <-chan struct{} { return n }
