// A/B Testing at edge
addEventListener('fetch', event => {
    event.respondWith(handleABTest(event.request))
})

async function handleABTest(request) {
    const url = new URL(request.url);
    
    // Get or assign experiment variant
    const cookie = request.headers.get('Cookie') || '';
    let variant = getVariantFromCookie(cookie);
    
    if (!variant) {
        // Assign new user to variant (50/50 split)
        variant = Math.random() < 0.5 ? 'A' : 'B';
    }
    
    // Route to appropriate backend
    const backend = variant === 'A' 
        ? 'https://version-a.example.com'
        : 'https://version-b.example.com';
    
    const response = await fetch(backend + url.pathname, {
        headers: request.headers
    });
    
    // Set cookie to maintain variant assignment
    const newResponse = new Response(response.body, response);
    newResponse.headers.set('Set-Cookie', 
        `experiment_variant=${variant}; Path=/; Max-Age=2592000; SameSite=Lax`);
    newResponse.headers.set('X-Experiment-Variant', variant);
    
    return newResponse;
}

function getVariantFromCookie(cookie) {
    const match = cookie.match(/experiment_variant=([AB])/);
    return match ? match[1] : null;
}
