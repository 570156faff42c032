"""What the composed prompts are about: lists of words that `prompts` puts into its templates."""

TOPICS = (
    """
the water cycle|how bridges carry load|sleep and memory|the printing press|coral reefs|compound interest|urban gardening
volcanoes|honey bees|the history of tea|electric cars|the human immune system|tides|jazz music|public libraries
the Roman roads|photosynthesis|recycling plastics|chess openings|baking bread|glaciers|the stock market|machine learning
migration of birds|the Silk Road|vaccines|solar panels|the invention of the telephone|desert plants|good posture
time zones|earthquakes|the Olympic Games|fermentation|black holes|rivers and cities|the violin|clean drinking water
the French Revolution|wind turbines|learning a language|the periodic table|forests after a fire|maps and navigation
negotiation|the Moon landing|dinosaurs|online privacy|the Renaissance|tropical storms|coffee growing|mountain climbing
stress at work|the Industrial Revolution|how computers store numbers|vegetarian cooking|the Great Wall of China
gravity|antibiotics|the origin of money|whales|remote work|ancient Egypt|batteries|the ozone layer|good sleep habits
team sports for children|DNA|the Ottoman Empire|beekeeping|public speaking|the speed of light|trains and railways
microplastics|the brain and habits|rice farming|the theory of evolution|cheese making|lighthouses|optical illusions
city traffic|inflation|the Amazon rainforest|origami|ocean currents|the Cold War|nutrition for runners|satellites
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

PEOPLE = (
    """
Amara|Ben|Chiara|Dmitri|Elif|Farid|Grace|Hugo|Ines|Jonas|Keiko|Liam|Mona|Nadia|Oscar|Priya|Quentin|Rosa|Samir|Tara
Uma|Victor|Wendy|Yusuf|Zofia|Marta|Kofi|Lena|Pablo|Ruth
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

JOBS = (
    """
a nurse|a carpenter|a ship's captain|a librarian|a chef|a detective|an astronaut|a beekeeper|a history teacher|a mechanic
a poet|a firefighter|a travel guide|a doctor|a farmer|a judge|a robot butler|a medieval knight|a football coach|a pilot
a museum guard|an economist|a gardener|a clockmaker|a software engineer|a diplomat|a physicist|a baker|a tailor|a vet
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

PLACES = (
    """
a small fishing village|Lisbon|a space station|the Sahara|a mountain hut|Kyoto|an old theatre|Nairobi|a night train
a lighthouse|Buenos Aires|a flooded city|an island without electricity|Prague|a school in the future|Vancouver
a desert market|an abandoned factory|Istanbul|a bakery at dawn|Edinburgh|the Arctic|a botanical garden|Melbourne
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

THINGS = (
    """
apples|notebooks|tickets|eggs|bricks|marbles|postcards|candles|oranges|books|bottles of juice|chairs|stamps|flower pots
cupcakes|pencils|shirts|bags of rice|toy cars|bicycles|sandwiches|seashells|lamps|potatoes
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

OBJECTS = (
    """
an old key|a broken clock|a letter without a sender|a red umbrella|a talking parrot|a forgotten map|a blue suitcase
a silver coin|a photograph|a piano out of tune|a jar of fireflies|a wooden boat|a borrowed coat|a dictionary|a compass
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

MOODS = ["hopeful", "melancholic", "funny", "tense", "calm", "mysterious", "warm", "formal", "playful", "ironic"]

CODE_TASKS = (
    """
checks whether a number is prime|reverses the words of a sentence|merges two sorted lists|counts the vowels in a string
finds the second largest number in a list|converts Celsius to Fahrenheit|removes duplicates but keeps the order
computes the greatest common divisor|checks whether brackets are balanced|groups words that are anagrams
finds the longest common prefix|reads a CSV file and sums a column|rotates a list by k places|flattens a nested list
computes the factorial of n|implements binary search|implements a queue with two stacks|parses a date such as 2024-05-17
validates an e-mail address|counts how often each word occurs|transposes a matrix|generates a random password
finds all pairs that sum to a target|converts a Roman numeral to an integer|checks whether a string is a palindrome
implements bubble sort|computes a moving average|finds the missing number from 1 to n|encodes a string by run lengths
formats a number of seconds as hours, minutes and seconds|computes the area of a polygon|downloads a web page
implements a linked list|finds the shortest path in a grid|shuffles a deck of cards|simulates throwing two dice
draws a triangle of stars|measures how long a function takes|walks a folder and lists large files|sorts by two keys
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

LANGUAGES_OF_CODE = ["Python"] * 6 + ["JavaScript"] * 2 + ["C++", "Java", "Go", "SQL", "Bash", "Rust", "C"]

FACTS = (
    """
the capital of {}|the currency of {}|the official language of {}|a famous dish from {}|the largest city in {}
a river in {}|a neighbour of {}|the climate of {}|a famous writer from {}|the main exports of {}
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

COUNTRIES = (
    """
Portugal|Kenya|Japan|Chile|Norway|Egypt|Vietnam|Canada|Greece|Peru|Morocco|Poland|Thailand|Ireland|Brazil|Finland|Ghana
Mexico|Hungary|New Zealand|Turkey|Iceland|Austria|Indonesia
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

SENTENCES = {
    "German": """Der Zug nach Hamburg hat heute zwanzig Minuten Verspätung.|Meine Schwester lernt seit drei Jahren Geige.
Wir treffen uns morgen um acht vor dem Rathaus.|Das Wetter soll am Wochenende besser werden.
Die Bäckerei am Markt verkauft das beste Brot der Stadt.|Er hat seinen Schlüssel im Büro vergessen.
Im Winter frieren die kleinen Seen oft zu.|Können Sie mir bitte sagen, wo der Bahnhof ist?""",
    "French": """Le marché ouvre à sept heures le samedi matin.|Nous avons oublié nos parapluies au restaurant.
Ma voisine cultive des tomates sur son balcon.|Le train pour Lyon part du quai numéro quatre.
Il faut lire les instructions avant de commencer.|Les enfants jouent dans la cour de l'école.""",
    "Spanish": """El museo cierra los lunes y los días festivos.|Mi abuelo cuenta historias junto al fuego.
Necesitamos dos entradas para el concierto de esta noche.|La biblioteca está al lado del parque.
Ayer llovió tanto que la calle se inundó.|Quiero aprender a cocinar platos sencillos.""",
}
SENTENCES = {name: text.replace("\n", "|").split("|") for name, text in SENTENCES.items()}

ENGLISH_SENTENCES = (
    """
The shop on the corner sells fresh bread every morning.|I left my coat on the train and had to go back for it.
Could you tell me when the next ferry leaves?|The meeting was moved to Thursday because of the holiday.
She painted the kitchen yellow and the door dark green.|After the storm the whole village helped to clear the road.
We need three volunteers for the school garden.|The old bridge will be closed until the end of May.
""".strip()
    .replace("\n", "|")
    .split("|")
)

PASSAGES = """
The Marlow Street library opened in 1931 in a former tram depot. It closed for eleven years after a fire in 1974, and \
volunteers rebuilt the reading room with timber from the old platforms. Today it lends tools and seeds as well as books, \
and about four hundred people visit it on an ordinary Saturday.
Sourdough rises because wild yeast and bacteria live together in the starter. The yeast makes the gas, the bacteria make \
the acids that give flavour and keep moulds away. A starter fed once a day at room temperature is active enough after \
about a week; kept in a refrigerator it needs food only once a week.
The town council of Ferrybridge voted on Tuesday to replace the street lamps of the old quarter with dimmable LED lamps. \
The work will cost 1.2 million and is expected to save two thirds of the electricity. Shop owners asked for the work to \
pause in December; the council agreed. The first lamps will be changed in March near the station.
Peregrine falcons have nested on the cathedral tower since 2009. A camera showed that the pair brings mostly pigeons and \
starlings to the nest, but in spring also waders that migrate at night. Three of four chicks left the nest last year. \
The cathedral rings only the small bell while the birds breed.
Marisol Vega started her company in a garage with two sewing machines. She repaired rucksacks for climbers before she \
made her own. After five years she employed nine people, and she still offers a free repair for every bag that she sold. \
In interviews she says that a product that can be repaired is the best advertisement.
A heat pump moves heat from the cold outside to the warm inside by evaporating and condensing a fluid. For each unit of \
electricity it delivers three to four units of heat in mild weather and about two in hard frost. It works best with large \
radiators or floor heating, because the water then need not be hot.
The river Tarn was straightened in the 1950s to protect farmland. Floods then moved downstream, and in 1998 the town of \
Brenna stood under water for nine days. Engineers have since given the river back four of its bends; the new wetland holds \
the water of a wet week, and herons returned within two years.
The company reported a revenue of 48 million for the third quarter, 6 percent more than a year ago. Profit fell to 3.1 \
million since freight became dearer. The board expects growth of 5 to 7 percent for the year and will open a second \
warehouse near Leeds. Shares rose by 2 percent on Friday.
During the experiment two groups of students learned forty words of an invented language. One group slept for ninety \
minutes afterwards, the other watched a film. After a week the first group remembered twenty-six words on average and the \
second nineteen. The authors warn that the groups were small, with eighteen students each.
The night ferry from Port Anders takes nine hours to Sellin. It leaves at 21:30 from May to September and at 20:00 in \
winter. Cabins have two or four beds; passengers without a cabin sleep in chairs on deck five. Dogs are allowed in some \
cabins only. Breakfast is served from six, and cars must be boarded forty minutes before departure.
Glass is made from sand, soda and lime. The mixture melts at about 1,500 degrees, but old glass added to it lowers the \
temperature and saves energy. Clear bottles must be sorted from green and brown ones, since a little colour spoils a whole \
melt. Window glass and oven dishes do not belong into the bottle bank because they melt differently.
Chess clubs in the valley have shared one team since 2015, when two of them had too few players left. They play at home in \
Ostra in odd months and in Lenz in even ones. Last season they came third of ten. Their youngest player, Jana Torres, is \
fourteen and lost only one game.
""".strip().split("\n")

READERS = (
    """
children|beginners|a busy manager|a ten-year-old|university students|retired people|tourists|a sceptical friend
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

MECHANISMS = (
    """
friction|osmosis|magnetism|natural selection|supply and demand|a microwave oven|a refrigerator|an electric motor|sound
the greenhouse effect|a transistor|encryption|the heart|a telescope|rust|a jet engine|rainfall|radioactivity
a search engine|muscle growth|buoyancy|a nuclear reactor|digestion|a touch screen|lightning|the internet
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

PAIRS = (
    """
a virus and a bacterium|speed and velocity|weather and climate|mass and weight|an alloy and a compound
correlation and causation|an atom and a molecule|RAM and storage|mitosis and meiosis|heat and temperature
a planet and a star|a mean and a median|renewable and fossil energy|an artery and a vein
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

CODE_PAIRS = (
    """
a list and a tuple|a process and a thread|an error and an exception|a class and an object|recursion and a loop
a shallow and a deep copy|passing by value and by reference|unit tests and integration tests
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

INVENTIONS = (
    """
the bicycle|the telescope|paper|the steam engine|the zip|the camera|glass|the elevator|radio
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
