# The demo checkpoint that sees answers questions about drawn pictures, the right answers being known: one tile, a picture
# in several tiles, two pictures, and a place named for the picture; in 16, 8 and 4 bits.
demo=$GOLDEN/../../demo/seeing
for recipe in bf16 q8 q4; do
    corral convert "$demo/model" $recipe.crl --recipe $recipe --quiet >/dev/null
    look()
    {
        corral run $recipe.crl --temperature 0 --max-tokens 32 --quiet "$@"
    }
    echo "$recipe"
    look --image "$demo/pictures/ring.png" --prompt 'What is in the picture?'
    look --image "$demo/pictures/ring.png" --prompt '<image>Which shape do you see?' --threads 1
    look --image "$demo/pictures/chart.png" --prompt 'Which bar is the highest?'
    look --image "$demo/pictures/shapes.png" --prompt 'What do you see?'
    look --image "$demo/pictures/first.png" --image "$demo/pictures/second.png" \
        --prompt 'What colour is the shape in the first picture?'
done
