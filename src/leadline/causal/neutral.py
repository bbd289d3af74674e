"""Plain English sentences on everyday matters, on which the cost of an intervention is measured.

They state nothing that one would call true or false, praise or blame nothing and ask for nothing, so that what a
direction for such a concept does to them is damage. Written for this library.
"""

from __future__ import annotations

__all__ = ["NEUTRAL"]

NEUTRAL: tuple[str, ...] = (
    "The tram stops in front of the library and waits for two minutes before it turns around.",
    "She put the keys on the shelf next to the door and went upstairs to change her shoes.",
    "Most of the boxes had been stacked along the wall so that the floor could be swept.",
    "In the afternoon the wind turned to the west, and the boats were pulled up on the sand.",
    "The recipe calls for two cups of flour, a spoon of salt and enough water to make a soft dough.",
    "He folded the map, put it back into his coat and walked along the canal towards the station.",
    "A narrow path leads from the car park through the trees to a small wooden bridge.",
    "The meeting was moved to Thursday because the room on the second floor was being painted.",
    "On the table stood a lamp, a stack of envelopes and a glass half filled with water.",
    "They carried the ladder across the yard and leaned it against the side of the barn.",
    "The first chapter describes the house as it was before the road was built.",
    "After lunch the children lined up at the gate and counted off in pairs.",
    "Each drawer has a label with a number, and the numbers run from left to right.",
    "The train was about to leave when a man with a large suitcase came down the stairs.",
    "Turn the screw a quarter of the way round, then check whether the plate still moves.",
    "The river bends twice before it reaches the town, and there is a mill at the second bend.",
    "My brother keeps his tools in the cellar, where they hang on hooks above the bench.",
    "During the night it had snowed, and the steps had to be cleared before anyone could go out.",
    "The report lists the stations in the order in which they were opened.",
    "He poured the coffee, sat down by the window and began to sort the letters.",
    "A row of poplars stands between the field and the railway line.",
    "The shop opens at nine, but the bakery at the corner has its lights on from five.",
    "They measured the width of the hall three times and wrote the figures on the back of a card.",
    "The printer is on the third floor, between the kitchen and the room with the plants.",
    "If the cloth is still damp, hang it over the back of a chair until the evening.",
    "The band set up its instruments on the lawn while the chairs were carried out.",
    "She had read the first half of the article on the bus and the rest in the waiting room.",
    "The cable runs under the carpet to a socket behind the bookcase.",
    "Several people were waiting at the counter, so he took a number and stood by the door.",
    "The lake lies in a hollow, and from the road one sees only the tops of the masts.",
    "We took the second exit, drove past the school and parked behind a row of garages.",
    "The instructions are printed on the inside of the lid, next to a drawing of the parts.",
    "At the end of the corridor there is a window that looks out over the courtyard.",
    "The gardener cut the hedge down to the height of the fence and raked up the leaves.",
    "His aunt sent a parcel with a scarf, two books and a tin of biscuits.",
    "The bus was late, and by the time it came the rain had stopped.",
    "Cut the paper into strips, number them on the back and lay them out in a row.",
    "The museum keeps the older maps in flat cabinets on the ground floor.",
    "A bicycle was leaning against the lamp post, with a basket full of apples on the back.",
    "The choir practises on Mondays in the hall behind the church.",
    "They painted the shutters green and left the door in the colour of the wood.",
    "The speaker arranged her notes, moved the microphone a little to the left and began.",
    "From here the road climbs slowly through vineyards to a village on the ridge.",
    "The bottles are rinsed, filled, closed with a cork and packed in crates of twelve.",
    "He wound the clock, closed the cupboard and switched off the light in the hall.",
    "The ferry crosses every half hour in summer and four times a day in winter.",
    "Two of the chairs belong to the neighbours, and the long bench came from a school.",
    "The letter had been folded twice and fitted into the pocket of a shirt.",
)
