package relay

// Splices returns how many directions are spliced now.
func Splices() int { return int(splices.Load()) }

// The sizes of what a direction reads with.
const (
	LargeSize  = largeSize
	MediumSize = mediumSize
	SmallSize  = smallSize
	ParkAfter  = parkAfter
)
